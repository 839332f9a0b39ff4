// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/memory_facts.h"

#include <sys/auxv.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "allocator/base/text.h"
#include "allocator/os/known_paths.h"
#include "allocator/os/small_file.h"
#include "allocator/os/system_call.h"

namespace tarn {

namespace {

// The number at the start of the text; `otherwise` where there is none ("max") or it does not fit.
std::size_t Number(std::string_view text, std::size_t otherwise) {
  std::size_t number = 0;
  std::size_t digits = 0;
  for (; digits < text.size() && text[digits] >= '0' && text[digits] <= '9'; ++digits) {
    if (number > (SIZE_MAX - 9) / 10) return otherwise;
    number = number * 10 + static_cast<std::size_t>(text[digits] - '0');
  }
  return digits == 0 ? otherwise : number;
}

// The limit in `file` of the directory `path` below `mount`, and of all directories above it.
std::size_t LeastLimit(std::string_view mount, std::string_view path, std::string_view file) {
  std::size_t least_bytes = SIZE_MAX;
  while (true) {
    while (path.ends_with('/')) path.remove_suffix(1);
    Text<1024> name;
    name << mount << path << file << std::string_view("\0", 1);
    const SmallFile<32> limit(name.view().data());
    least_bytes = std::min(least_bytes, Number(limit.text(), SIZE_MAX));
    if (path.empty()) return least_bytes;
    path.remove_suffix(path.size() - path.find_last_of('/'));
  }
}

// True if one of the names, between commas, is that.
bool Names(std::string_view names, std::string_view name) {
  while (!names.empty()) {
    const std::size_t end = std::min(names.find(','), names.size());
    if (std::string_view(names.data(), end) == name) return true;
    names.remove_prefix(std::min(end + 1, names.size()));
  }
  return false;
}

}  // namespace

std::size_t ResidentBytes() {
  const SmallFile<128> file(kStatmPath);
  const std::size_t space = file.text().find(' ');
  if (space == std::string_view::npos) return 0;
  return Number({file.text().data() + space + 1, file.text().size() - space - 1}, 0) * ::getauxval(AT_PAGESZ);
}

std::size_t PhysicalMemoryBytes() {
  struct sysinfo info = {};
  if (SystemCall(SYS_sysinfo, &info) != 0) return SIZE_MAX;
  return static_cast<std::size_t>(info.totalram) * info.mem_unit;
}

std::size_t ContainerLimitBytes() {
  // A line per hierarchy: number, controllers, path. "0::/path" is that of v2.
  const SmallFile<4096> file("/proc/self/cgroup");
  std::string_view text = file.text();
  std::size_t least_bytes = SIZE_MAX;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line(text.data(), end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string_view::npos ? first : line.find(':', first + 1);
    if (second == std::string_view::npos) continue;
    const std::string_view controllers(line.data() + first + 1, second - first - 1);
    const std::string_view path(line.data() + second + 1, line.size() - second - 1);
    if (!path.starts_with('/')) continue;
    if (controllers.empty()) {
      for (const std::string_view mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
        least_bytes = std::min(least_bytes, LeastLimit(mount, path, "/memory.max"));
      }
    } else if (Names(controllers, "memory")) {
      least_bytes = std::min(least_bytes, LeastLimit("/sys/fs/cgroup/memory", path, "/memory.limit_in_bytes"));
    }
  }
  return least_bytes < PhysicalMemoryBytes() ? least_bytes : SIZE_MAX;
}

}  // namespace tarn
