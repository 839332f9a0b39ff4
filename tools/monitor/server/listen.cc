// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/server/listen.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "tools/base/error.h"

namespace tarn::tool {

namespace {

constexpr int kBacklog = 128;

// The bytes of a numeric address in network order; empty where it is none.
std::string NumericAddress(const std::string& text) {
  char bytes[sizeof(in6_addr)];
  if (inet_pton(AF_INET, text.c_str(), bytes) == 1) return std::string(bytes, sizeof(in_addr));
  if (inet_pton(AF_INET6, text.c_str(), bytes) == 1) return std::string(bytes, sizeof(in6_addr));
  return "";
}

bool IsLoopback(const std::string& text) {
  const std::string bytes = NumericAddress(text);
  if (bytes.size() == sizeof(in_addr)) return bytes[0] == 127;
  return bytes == std::string(15, '\0') + '\1';
}

std::string LowerCase(std::string_view text) {
  std::string lower(text);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return lower;
}

// The name in a Host header, without the port and the brackets.
std::string HostName(std::string_view host) {
  if (host.starts_with('[')) return LowerCase(host.substr(1, std::min(host.find(']'), host.size()) - 1));
  std::string name = LowerCase(host.substr(0, host.rfind(':')));
  // The dot of a complete name.
  if (name.ends_with('.')) name.pop_back();
  return name;
}

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t bytes = 0;
  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

SocketAddress ToSocketAddress(const ListenAddress& address) {
  SocketAddress result;
  if (!address.unix_path.empty()) {
    auto* local = reinterpret_cast<sockaddr_un*>(&result.storage);
    local->sun_family = AF_UNIX;
    memcpy(local->sun_path, address.unix_path.data(), address.unix_path.size());
    result.bytes = sizeof(sockaddr_un);
  } else if (address.host.find(':') == std::string::npos) {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&result.storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(static_cast<std::uint16_t>(address.port));
    inet_pton(AF_INET, address.host.c_str(), &v4->sin_addr);
    result.bytes = sizeof(sockaddr_in);
  } else {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&result.storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(static_cast<std::uint16_t>(address.port));
    inet_pton(AF_INET6, address.host.c_str(), &v6->sin6_addr);
    result.bytes = sizeof(sockaddr_in6);
  }
  return result;
}

// A socket that an earlier server left behind is taken away, one that somebody answers is not.
void RemoveStaleSocket(const ListenAddress& address) {
  struct stat status;
  if (lstat(address.unix_path.c_str(), &status) != 0) return;
  if (!S_ISSOCK(status.st_mode))
    throw ToolError(fmt::format("{} is there already and is not a socket; name another path", address.unix_path));
  const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  SocketAddress place = ToSocketAddress(address);
  const bool is_answered = connect(probe, place.get(), place.bytes) == 0 || errno != ECONNREFUSED;
  close(probe);
  if (!is_answered) unlink(address.unix_path.c_str());
}

}  // namespace

bool ListenAddress::is_loopback() const { return !unix_path.empty() || IsLoopback(host); }

bool ListenAddress::is_any() const { return host == "0.0.0.0" || host == "::"; }

ListenAddress ParseListenAddress(std::string_view text) {
  ListenAddress address;
  constexpr std::string_view kUnix = "unix:";
  if (text.starts_with(kUnix)) {
    address.unix_path = text.substr(kUnix.size());
    if (address.unix_path.empty() || address.unix_path.size() >= sizeof(sockaddr_un::sun_path))
      throw UsageError(fmt::format("--listen {}: a path of 1 to {} bytes goes behind unix:", text,
                                   sizeof(sockaddr_un::sun_path) - 1));
    return address;
  }
  const std::size_t colon = text.rfind(':');
  std::string host = colon == std::string_view::npos ? "127.0.0.1" : std::string(text.substr(0, colon));
  const std::string_view port = colon == std::string_view::npos ? text : text.substr(colon + 1);
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string::npos) {
    throw UsageError(fmt::format("--listen {}: an IPv6 address stands in brackets, as in [::1]:9464", text));
  }
  if (host == "localhost") host = "127.0.0.1";
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), address.port);
  const bool is_number = error == std::errc() && end == port.data() + port.size();
  if (!is_number || address.port < 0 || address.port > 65535 || NumericAddress(host).empty())
    throw UsageError(
        fmt::format("--listen {}: expected ADDRESS:PORT with a numeric address, as in {}, or unix:PATH; "
                    "0.0.0.0 is all interfaces",
                    text, kDefaultListen));
  address.host = host;
  return address;
}

int OpenListener(const ListenAddress& address) {
  if (!address.unix_path.empty()) RemoveStaleSocket(address);
  SocketAddress place = ToSocketAddress(address);
  const int listener = socket(place.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  const std::string where =
      address.unix_path.empty() ? fmt::format("{}, port {}", address.host, address.port) : address.unix_path;
  if (listener < 0) throw ToolError(fmt::format("cannot listen at {}: {}", where, strerror(errno)));
  const int on = 1;
  if (address.unix_path.empty()) {
    // A port whose last connections have just been closed may be taken again.
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address.host.find(':') != std::string::npos) setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  } else {
    // The file that bind makes gets the rights of the socket: for its owner alone.
    fchmod(listener, S_IRUSR | S_IWUSR);
  }
  if (bind(listener, place.get(), place.bytes) == 0 && listen(listener, kBacklog) == 0) return listener;
  const int error = errno;
  close(listener);
  const char* hint = error == EADDRINUSE      ? "; another program listens there; choose another with --listen"
                     : error == EADDRNOTAVAIL ? "; this machine has no such address"
                     : error == EACCES        ? "; ports below 1024 need root, and a path a directory to write to"
                                              : "";
  throw ToolError(fmt::format("cannot listen at {}: {}{}", where, strerror(error), hint));
}

std::string ListenerUrl(int listener, const ListenAddress& address) {
  if (!address.unix_path.empty()) return "unix:" + address.unix_path;
  SocketAddress place;
  place.bytes = sizeof place.storage;
  int port = address.port;
  if (getsockname(listener, place.get(), &place.bytes) == 0) {
    port = ntohs(place.storage.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&place.storage)->sin6_port
                                                     : reinterpret_cast<sockaddr_in*>(&place.storage)->sin_port);
  }
  const bool is_v6 = address.host.find(':') != std::string::npos;
  return fmt::format("http://{}{}{}:{}", is_v6 ? "[" : "", address.host, is_v6 ? "]" : "", port);
}

HostRule::HostRule(ListenAddress address, const std::vector<std::string>& allowed) : address_(std::move(address)) {
  for (const std::string& name : allowed) allowed_.push_back(HostName(name));
}

bool HostRule::Allows(std::string_view host) const {
  // No name leads a browser to a socket in the file system.
  if (!address_.unix_path.empty()) return true;
  const std::string name = HostName(host);
  if (name == "localhost" || IsLoopback(name) || std::ranges::find(allowed_, name) != allowed_.end()) return true;
  const std::string number = NumericAddress(name);
  return !number.empty() && (address_.is_any() || number == NumericAddress(address_.host));
}

}  // namespace tarn::tool
