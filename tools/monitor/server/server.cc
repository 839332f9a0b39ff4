// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/server/server.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <string_view>
#include <utility>

#include "tools/base/error.h"
#include "tools/monitor/server/installed.h"
#include "tools/monitor/server/server_module.h"
#include "tools/monitor/server/signals_blocked.h"

namespace tarn::tool {

namespace {

constexpr std::string_view kModule = "tarn_http.so";

// The function of the module, which lies beside the tool. It is never unloaded.
decltype(&MakeServerCore) LoadModule() {
  std::string complaint;
  for (const std::string& path : InstalledFiles(kModule)) {
    if (void* const module = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL); module != nullptr)
      return reinterpret_cast<decltype(&MakeServerCore)>(dlsym(module, "MakeServerCore"));
    complaint = dlerror();
  }
  if (complaint.empty())
    complaint = fmt::format("it is not there; it belongs into lib/tarn, and {} was looked from", PathOfTool());
  throw ToolError(fmt::format("the server {} cannot be loaded: {}", kModule, complaint));
}

}  // namespace

HttpServer::HttpServer(const ListenAddress& address, const HostRule& hosts, HttpPages pages, const ServerLimits& limits)
    : address_(address) {
  const auto make = LoadModule();
  listener_ = OpenListener(address);
  url_ = ListenerUrl(listener_, address);
  core_.reset(make(
      listener_, [hosts](std::string_view host) { return hosts.Allows(host); }, std::move(pages), limits));
}

HttpServer::~HttpServer() {
  core_->Stop();
  if (!address_.unix_path.empty()) unlink(address_.unix_path.c_str());
}

void HttpServer::Start() {
  const SignalsBlocked blocked;
  core_->Start();
}

void HttpServer::Stop() { core_->Stop(); }

}  // namespace tarn::tool
