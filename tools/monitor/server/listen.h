// SPDX-License-Identifier: Apache-2.0
//
// Where the monitor listens, and by which names it may be called.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tarn::tool {

inline constexpr std::string_view kDefaultListen = "127.0.0.1:9464";

struct ListenAddress {
  std::string unix_path;  // not empty: a socket in the file system, and the rest does not count
  std::string host;       // a numeric address, IPv6 without brackets
  int port = 0;           // 0: any that is free
  bool is_loopback() const;
  bool is_any() const;  // of all interfaces
};

// "127.0.0.1:9464", "[::1]:9464", "localhost:9464", "9464" (loopback), "unix:/run/tarn.sock". Throws UsageError.
ListenAddress ParseListenAddress(std::string_view text);

// A socket that listens there. Throws ToolError: the port is taken, the address is not ours.
int OpenListener(const ListenAddress& address);

// Where a socket listens really: "http://127.0.0.1:40123", "unix:/run/tarn.sock".
std::string ListenerUrl(int listener, const ListenAddress& address);

// Which Host headers are answered. A browser that was led here by a name of a foreign site (DNS rebinding) sends that
// name, so names count only where they were allowed.
class HostRule {
 public:
  HostRule(ListenAddress address, const std::vector<std::string>& allowed);
  bool Allows(std::string_view host) const;

 private:
  ListenAddress address_;
  std::vector<std::string> allowed_;
};

}  // namespace tarn::tool
