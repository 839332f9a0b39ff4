// SPDX-License-Identifier: Apache-2.0
//
// Figures of a running process, from /proc; those of its status file are in inspect/process_status.h.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

namespace tarn::tool {

// On the monotonic clock.
double Now();

// 0 where it has ended.
std::uint64_t RssBytes(pid_t pid);

// The figures of a process so far, with all its threads, without its children.
struct Usage {
  double cpu_s = 0;
  double system_s = 0;  // in the kernel's ticks of 10 ms, so that a difference may exceed that of cpu_s
  std::uint64_t minor_faults = 0;
  std::uint64_t major_faults = 0;
};
Usage UsageOf(pid_t pid);

// CPU time so far, of all its threads.
double CpuSeconds(pid_t pid);

// True if one of its threads runs, waits for a CPU, or waits for a disk. On a busy machine a process can use hardly any
// CPU and be far from silent.
bool IsAtWork(pid_t pid);

// The processes whose parent is this one: children, and orphans of the command, as this process is their subreaper.
std::vector<pid_t> OurChildren();

// The processes of a group that run an executable of this name.
std::vector<pid_t> GroupMembers(pid_t group, const std::string& executable);

}  // namespace tarn::tool
