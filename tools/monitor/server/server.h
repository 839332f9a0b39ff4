// SPDX-License-Identifier: Apache-2.0
//
// An HTTP server for a few pages, which slow, broken or many clients cannot hurt.
//
// One thread waits for all connections and reads requests until they are whole, so that a slow client holds nothing but
// its own connection. A few workers answer whole requests; they alone call the handler. Everything has a bound: see
// ServerLimits. Requests are understood and answers written by cpp-httplib, in server_module.cc alone.
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "tools/monitor/server/http.h"
#include "tools/monitor/server/listen.h"

namespace tarn::tool {

// Chosen: far more than scrapers and people need, and little memory at their worst.
struct ServerLimits {
  std::size_t connections = 64;
  std::size_t workers = 6;
  std::size_t request_bytes = 16 << 10;  // of the request line and all headers
  std::size_t body_bytes = 64 << 10;     // of a POST, where one is taken
  int requests_per_connection = 1000;
  double request_s = 10;     // from the first byte of a request to the last of its body
  double answer_s = 20;      // for the client to take an answer
  double keep_alive_s = 75;  // without a request; longer than Prometheus' interval of a minute
};

class ServerCore;

class HttpServer {
 public:
  // Listens, but does not answer yet. Throws ToolError where it cannot listen. What a page throws becomes an answer of
  // status 500.
  HttpServer(const ListenAddress& address, const HostRule& hosts, HttpPages pages, const ServerLimits& limits = {});
  // Stops, and removes a socket from the file system.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Its threads block all signals.
  void Start();
  void Stop();

  const std::string& url() const { return url_; }
  int listener() const { return listener_; }

 private:
  ListenAddress address_;
  int listener_ = -1;  // the core's
  std::string url_;
  std::unique_ptr<ServerCore> core_;
};

}  // namespace tarn::tool
