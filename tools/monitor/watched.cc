// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/watched.h"

#include <dirent.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <utility>

#include "tools/base/error.h"
#include "tools/monitor/observation.h"

namespace tarn::tool {

namespace {

// The kernel keeps so much of a program's name.
constexpr std::size_t kCommBytes = 15;

// Processes of a name, the oldest first: of a server with workers that is the one that started them.
std::vector<pid_t> ProcessesByName(const std::string& name) {
  std::vector<std::pair<std::uint64_t, pid_t>> found;
  DIR* const directory = opendir("/proc");
  if (directory == nullptr) return {};
  while (const dirent* entry = readdir(directory)) {
    pid_t pid = 0;
    const char* const end = entry->d_name + strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, pid).ptr != end || pid == getpid()) continue;
    if (ProcessName(pid) != name.substr(0, kCommBytes)) continue;
    if (const std::uint64_t start = StartTicks(pid); start != 0) found.emplace_back(start, pid);
  }
  closedir(directory);
  std::ranges::sort(found);
  std::vector<pid_t> pids;
  for (const auto& [start, pid] : found) pids.push_back(pid);
  return pids;
}

}  // namespace

Life::Life(pid_t pid) : target(pid), start_ticks(StartTicks(pid)), symbolizer(pid) {}

bool Life::IsOver() const { return StartTicks(target.pid()) != start_ticks; }

Watched::Watched(By by, std::string what) : by_(by), what_(std::move(what)) {}

std::shared_ptr<Life> Watched::current() const {
  const std::lock_guard lock(mutex_);
  return life_;
}

std::shared_ptr<Life> Watched::Find() {
  // Only the thread that ticks comes here, so the search needs no lock; readers of the pages go on during it.
  if (std::shared_ptr<Life> life = current(); life != nullptr) {
    if (!life->IsOver()) return life;
    Lose(life);
  }
  std::shared_ptr<Life> next;
  std::string absence;
  int code = kExitError;
  try {
    for (const pid_t pid : Candidates()) {
      try {
        next = std::make_shared<Life>(pid);
        break;
      } catch (const ToolError& error) {
        // The reason of the oldest one says most.
        if (absence.empty()) {
          absence = error.what();
          code = error.exit_code();
        }
      }
    }
  } catch (const ToolError& error) {
    absence = error.what();
  }
  if (absence.empty()) absence = fmt::format("there is no process called {}", what_);
  const std::lock_guard lock(mutex_);
  life_ = next;
  absence_ = next != nullptr ? "" : absence;
  absence_code_ = next != nullptr ? 0 : code;
  return next;
}

void Watched::Lose(const std::shared_ptr<Life>& life) {
  const std::lock_guard lock(mutex_);
  if (life_ != life) return;
  life_ = nullptr;
  absence_ = fmt::format("process {} ({}) has ended", life->target.pid(), life->target.name());
  absence_code_ = 0;
}

std::string Watched::absence() const {
  const std::lock_guard lock(mutex_);
  return absence_;
}

int Watched::absence_code() const {
  const std::lock_guard lock(mutex_);
  return absence_code_;
}

std::vector<pid_t> Watched::Candidates() const {
  if (by_ == By::kName) return ProcessesByName(what_);
  if (by_ == By::kPid) return {ParsePid(what_)};
  std::ifstream file(what_);
  std::string number;
  if (!(file >> number)) throw ToolError(fmt::format("{} does not hold the number of a process (yet)", what_));
  return {ParsePid(number)};
}

}  // namespace tarn::tool
