// SPDX-License-Identifier: Apache-2.0
//
// The process that a monitor watches, and the one that comes after it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tools/inspect/symbolizer.h"
#include "tools/inspect/target.h"

namespace tarn::tool {

// One process, from its start to its end or to the execution of another program.
struct Life {
  explicit Life(pid_t pid);
  // True once another process, or none, is behind the number of the one that was found.
  bool IsOver() const;

  const Target target;
  const std::uint64_t start_ticks;
  // Keeps what it read, so all profiles of a process share one; one at a time.
  std::mutex symbolizer_mutex;
  Symbolizer symbolizer;
};

// All functions may be called by any thread.
class Watched {
 public:
  enum class By { kPid, kName, kPidFile };
  // `what` is the number, the name of the program as ps shows it, or the path of a file with the number.
  Watched(By by, std::string what);

  // The process, null where there is none at present.
  std::shared_ptr<Life> current() const;
  // The same, after looking whether it has ended, and for the next one.
  std::shared_ptr<Life> Find();
  // It could not be read any more.
  void Lose(const std::shared_ptr<Life>& life);

  // Why there is none, in a sentence, and the exit code that belongs to that.
  std::string absence() const;
  int absence_code() const;
  // True where another process may come when this one has ended.
  bool has_next() const { return by_ != By::kPid; }

 private:
  std::vector<pid_t> Candidates() const;

  const By by_;
  const std::string what_;
  mutable std::mutex mutex_;  // for all that follows
  std::shared_ptr<Life> life_;
  std::string absence_;
  int absence_code_ = 0;
};

}  // namespace tarn::tool
