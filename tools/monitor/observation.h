// SPDX-License-Identifier: Apache-2.0
//
// The figures of a process at one moment.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "allocator/include/tarn/memstats.h"
#include "allocator/include/tarn/registry.h"
#include "allocator/include/tarn/snapshot.h"
#include "tools/inspect/target.h"

namespace tarn::tool {

// The figures that the kernel has of a process; 0 where it has none.
struct ProcessFigures {
  double cpu_s = 0;
  double start_time_s = 0;  // since 1970
  std::uint64_t virtual_bytes = 0;
  std::uint64_t threads = 0;
  std::uint64_t open_files = 0;
  std::uint64_t max_files = 0;
};

struct Observation {
  double time_s = 0;    // since 1970
  double steady_s = 0;  // of a clock that only goes forward, for differences
  pid_t pid = 0;
  std::string program;
  std::string library_version;
  tarn_memstats_t stats{};
  tarn_snapshot_profile profile{};
  std::vector<tarn_registry_record> pools;
  ProcessFigures process;
};

// Throws TargetGone.
Observation Observe(const Target& target);

// When a process was started, in the kernel's ticks since it booted: with the PID it tells one process from all others.
// 0: there is none, or it has ended and waits for its parent.
std::uint64_t StartTicks(pid_t pid);

}  // namespace tarn::tool
