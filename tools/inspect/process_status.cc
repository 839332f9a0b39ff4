// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/process_status.h"

#include <algorithm>
#include <charconv>
#include <fstream>

namespace tarn::tool {

std::string StatusField(pid_t pid, std::string_view name) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name) || line.size() <= name.size() || line[name.size()] != ':') continue;
    return line.substr(std::min(line.find_first_not_of(" \t", name.size() + 1), line.size()));
  }
  return "";
}

std::uint64_t StatusBytes(pid_t pid, std::string_view name) {
  const std::string field = StatusField(pid, name);
  std::uint64_t kib = 0;
  std::from_chars(field.data(), field.data() + field.size(), kib);
  return kib * 1024;
}

}  // namespace tarn::tool
