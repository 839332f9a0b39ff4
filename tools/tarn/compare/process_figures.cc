// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/process_figures.h"

#include <fmt/format.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>

namespace tarn::tool {

namespace {

// The fields of /proc/PID/stat behind the name: state, parent, group and so on.
struct StatLine {
  char state = 0;
  pid_t parent = 0;
  pid_t group = 0;
  std::uint64_t minor_faults = 0;
  std::uint64_t major_faults = 0;
  std::uint64_t system_ticks = 0;
};

std::optional<StatLine> ReadStat(const std::string& process) {
  std::ifstream file("/proc/" + process + "/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // The name in brackets may hold anything.
  std::stringstream rest(line.substr(line.rfind(')') + 1));
  StatLine stat;
  std::string other;
  rest >> stat.state >> stat.parent >> stat.group;
  for (int i = 0; i < 4; ++i) rest >> other;  // session, tty_nr, tpgid, flags
  rest >> stat.minor_faults >> other >> stat.major_faults >> other >> other >> stat.system_ticks;
  if (!rest) return std::nullopt;
  return stat;
}

std::vector<pid_t> ProcessesWith(const std::function<bool(const StatLine&)>& wanted) {
  std::vector<pid_t> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    const auto stat = ReadStat(name);
    if (stat && wanted(*stat)) found.push_back(std::stoi(name));
  }
  return found;
}

}  // namespace

double Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

std::uint64_t RssBytes(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/statm", pid));
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  if (!(file >> size >> resident)) return 0;
  static const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return resident * page_bytes;
}

Usage UsageOf(pid_t pid) {
  Usage usage;
  const auto stat = ReadStat(std::to_string(pid));
  if (!stat) return usage;
  usage.system_s = static_cast<double>(stat->system_ticks) / static_cast<double>(sysconf(_SC_CLK_TCK));
  usage.cpu_s = CpuSeconds(pid);
  usage.minor_faults = stat->minor_faults;
  usage.major_faults = stat->major_faults;
  return usage;
}

double CpuSeconds(pid_t pid) {
  clockid_t clock;
  timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

bool IsAtWork(pid_t pid) {
  std::error_code error;
  for (const auto& thread : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), error)) {
    std::ifstream file(thread.path() / "stat");
    std::string line;
    // The name in brackets may hold anything; behind it comes the state.
    if (!std::getline(file, line)) continue;
    const std::size_t state = line.rfind(')') + 2;
    if (state < line.size() && (line[state] == 'R' || line[state] == 'D')) return true;
  }
  return false;
}

std::vector<pid_t> OurChildren() {
  return ProcessesWith([](const StatLine& stat) { return stat.parent == getpid(); });
}

std::vector<pid_t> GroupMembers(pid_t group, const std::string& executable) {
  std::vector<pid_t> members = ProcessesWith([&](const StatLine& stat) { return stat.group == group; });
  std::erase_if(members, [&](pid_t pid) {
    std::error_code error;
    return std::filesystem::read_symlink(fmt::format("/proc/{}/exe", pid), error).filename() != executable;
  });
  return members;
}

}  // namespace tarn::tool
