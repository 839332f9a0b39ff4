// SPDX-License-Identifier: Apache-2.0
//
// A request and a response as the monitor's pages see them: server.cc makes the one and sends the other.
//
// GET and HEAD arrive here, of HEAD the server leaves out the body; POST only at pages that take it.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tarn::tool {

struct HttpRequest {
  std::string method = "GET";
  std::string path;                               // decoded, without the query
  std::string query;                              // as it was sent, without the question mark
  std::map<std::string, std::string> parameters;  // of the query, decoded; of several with one name the first
  std::string accept;                             // of the headers; empty: not sent
  std::string host;
  std::string origin;
  std::string control;  // X-Tarn-Control
  std::string body;     // of a POST
  // True once nobody waits for the answer any more: the client has gone, or the server stops.
  std::function<bool()> is_abandoned = [] { return false; };

  bool Has(const std::string& name) const { return parameters.contains(name); }
  std::string Parameter(const std::string& name) const {
    const auto found = parameters.find(name);
    return found == parameters.end() ? "" : found->second;
  }
};

inline constexpr std::string_view kPlainText = "text/plain; charset=utf-8";

struct HttpResponse {
  int status = 200;
  std::string content_type{kPlainText};
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

// The pages of a server. Both are called by several threads at once.
struct HttpPages {
  HttpHandler answer;
  // The methods of a path, as the header Allow has them; all others are answered with 405. A body is read only of a
  // POST that is among them. Empty: `answer` refuses it, whatever the method.
  std::function<std::string(std::string_view path)> methods = [](std::string_view) { return std::string(kReading); };

  static constexpr std::string_view kReading = "GET, HEAD";
};

// The index of the media type that a header Accept likes best, as "text/plain" or "application/*" has it; of equals the
// first. No header accepts everything; -1: none is accepted.
int PreferredType(std::string_view accept, const std::vector<std::string_view>& types);

// "a=1&b=%32", decoded; of several with one name the first.
std::map<std::string, std::string> FormParameters(std::string_view form);

bool EqualsIgnoringCase(std::string_view a, std::string_view b);
// Without blanks and tabs around it.
std::string_view Trimmed(std::string_view text);

}  // namespace tarn::tool
