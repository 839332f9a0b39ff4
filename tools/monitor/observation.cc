// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/observation.h"

#include <dirent.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

namespace tarn::tool {

namespace {

// The fields of /proc/PID/stat from the third one on (proc(5) counts from 1): the second is a name, which may hold
// anything.
std::vector<std::string> StatFields(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  std::vector<std::string> fields;
  const std::size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return fields;
  std::istringstream rest(line.substr(name_end + 1));
  for (std::string field; rest >> field;) fields.push_back(field);
  return fields;
}

std::uint64_t StatNumber(const std::vector<std::string>& fields, std::size_t number) {
  return number - 3 < fields.size() ? std::strtoull(fields[number - 3].c_str(), nullptr, 10) : 0;
}

double BootTime() {
  std::ifstream file("/proc/stat");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("btime ")) return std::strtod(line.c_str() + 6, nullptr);
  return 0;
}

std::uint64_t CountOpenFiles(pid_t pid) {
  const std::string path = fmt::format("/proc/{}/fd", pid);
  // Newer kernels (6.2) give the number as the directory's size, which is quick also where there are very many.
  struct stat status;
  if (stat(path.c_str(), &status) == 0 && status.st_size > 0) return static_cast<std::uint64_t>(status.st_size);
  DIR* const directory = opendir(path.c_str());
  if (directory == nullptr) return 0;
  std::uint64_t count = 0;
  while (const dirent* entry = readdir(directory)) count += entry->d_name[0] != '.' ? 1 : 0;
  closedir(directory);
  return count;
}

ProcessFigures ReadProcessFigures(pid_t pid) {
  ProcessFigures figures;
  const std::vector<std::string> fields = StatFields(pid);
  static const auto ticks_per_s = static_cast<double>(sysconf(_SC_CLK_TCK));
  static const double boot_time_s = BootTime();
  figures.cpu_s = static_cast<double>(StatNumber(fields, 14) + StatNumber(fields, 15)) / ticks_per_s;
  figures.threads = StatNumber(fields, 20);
  figures.start_time_s = boot_time_s + static_cast<double>(StatNumber(fields, 22)) / ticks_per_s;
  figures.virtual_bytes = StatNumber(fields, 23);
  figures.open_files = CountOpenFiles(pid);
  rlimit limit;
  if (prlimit(pid, RLIMIT_NOFILE, nullptr, &limit) == 0) figures.max_files = limit.rlim_cur;
  return figures;
}

}  // namespace

Observation Observe(const Target& target) {
  Observation now;
  using Seconds = std::chrono::duration<double>;
  now.time_s = Seconds(std::chrono::system_clock::now().time_since_epoch()).count();
  now.steady_s = Seconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  now.pid = target.pid();
  now.program = target.name();
  const tarn_snapshot_block& block = target.reader().block();
  now.library_version.assign(block.library_version, strnlen(block.library_version, sizeof block.library_version));
  now.stats = target.Stats();
  if (!target.reader().ReadProfile(&now.profile) ||
      !target.reader().ForEachNamedPool([&](const tarn_registry_record& pool) { now.pools.push_back(pool); }))
    target.Lost();
  now.process = ReadProcessFigures(target.pid());
  return now;
}

std::uint64_t StartTicks(pid_t pid) {
  const std::vector<std::string> fields = StatFields(pid);
  if (fields.empty() || fields[0] == "Z" || fields[0] == "X") return 0;
  return StatNumber(fields, 22);
}

}  // namespace tarn::tool
