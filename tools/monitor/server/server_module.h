// SPDX-License-Identifier: Apache-2.0
//
// The part of the server that is loaded when it is wanted: connections, threads, and cpp-httplib.
//
// It is a file of its own, tarn_http.so: cpp-httplib's library brings OpenSSL and more with it, which would cost every
// other verb some milliseconds at its start. It takes nothing from the tool but what is passed to it.
#pragma once

#include <functional>
#include <string_view>

#include "tools/monitor/server/http.h"
#include "tools/monitor/server/server.h"

namespace tarn::tool {

class ServerCore {
 public:
  virtual ~ServerCore() = default;
  virtual void Start() = 0;
  virtual void Stop() = 0;
};

using AllowsHost = std::function<bool(std::string_view)>;

// Takes the listener over.
extern "C" __attribute__((visibility("default"))) ServerCore* MakeServerCore(int listener, AllowsHost allows_host,
                                                                             HttpPages pages,
                                                                             const ServerLimits& limits);

}  // namespace tarn::tool
