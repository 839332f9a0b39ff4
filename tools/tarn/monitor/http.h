// A request and a response as the monitor's pages see them: server.cc makes the one and sends the other.
//
// Only GET and HEAD arrive here; of HEAD the server leaves out the body.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tarn::tool {

struct HttpRequest {
  std::string path;                               // decoded, without the query
  std::string query;                              // as it was sent, without the question mark
  std::map<std::string, std::string> parameters;  // of the query, decoded; of several with one name the first
  std::string accept;                             // of the headers; empty: not sent
  std::string host;
  // Whether nobody waits for the answer any more: the client has gone, or the server stops.
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

// The index of the media type that a header Accept likes best, as "text/plain" or "application/*" has it; of equals the
// first. No header accepts everything; -1: none is accepted.
int PreferredType(std::string_view accept, const std::vector<std::string_view>& types);

}  // namespace tarn::tool
