// SPDX-License-Identifier: Apache-2.0
//
// A running process that uses tarn, and what the allocator in it publishes (tarn/snapshot.h).
//
// Nothing runs in that process: its memory is copied (process_memory.h), which needs the rights of a debugger. Only
// requests write, a few words: see requests.h. Nothing in the process is trusted. Each loop over what it publishes has
// a bound.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "allocator/observe/snapshot_reader.h"
#include "tools/base/error.h"
#include "tools/inspect/process_maps.h"
#include "tools/inspect/process_memory.h"

namespace tarn::tool {

// The place of what a process publishes, or the reason why there is none.
struct SnapshotPlace {
  std::uint64_t address = 0;  // of the block; 0: there is none
  std::string file;           // that it is in: libtarn.so, or a program that tarn is linked into
  // The reason why the block cannot be used, if any. kNotStarted: nobody has allocated by this tarn.
  SnapshotError error = SnapshotError::kNoMagic;
  std::string library_version;
};

// Looks for the block in all writable parts of files. One that is in use is preferred to one that is not. Throws
// ToolError when the process cannot be read, or has more that looks like a block than any program.
SnapshotPlace FindSnapshot(const ProcessMemory& memory, const std::vector<ProcessMapping>& maps);

// The process has ended, or runs another program now.
class TargetGone : public ToolError {
 public:
  using ToolError::ToolError;
};

class Target {
 public:
  // Throws ToolError: exit code 4 when the process does not use tarn, 1 when it cannot be looked into.
  explicit Target(pid_t pid);
  // The reader refers to the memory.
  Target(const Target&) = delete;
  Target& operator=(const Target&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& name() const { return name_; }  // of the program, as ps shows it
  const SnapshotReader<ProcessMemory>& reader() const { return reader_; }
  const std::string& library() const { return place_.file; }
  const ProcessMemory& memory() const { return memory_; }

  // Throws TargetGone: a process that could be read before and cannot now has ended, as a rule.
  [[noreturn]] void Lost() const;

  // The words of a request to release memory, as of one moment or of several that are close. Throws TargetGone where
  // the process has ended or runs another program, and ToolError where its version of the library cannot be asked.
  tarn_snapshot_release ReleaseWords() const;
  // Writes the number of a request, if it is still the same program. Throws like ReleaseWords, and ToolError with what
  // to do when the process cannot be written to.
  void RequestRelease(std::uint64_t number) const;
  // The same for a request for another soft limit.
  tarn_snapshot_limit_request LimitWords() const;
  void RequestLimit(std::uint64_t number, std::uint64_t bytes) const;

  std::vector<tarn_snapshot_option> Options() const;

  // With the figures that the kernel has.
  tarn_memstats_t Stats() const;
  std::uint64_t ResidentBytes() const;
  // As /proc/PID/status has it: 'S' sleeps, 'T' was stopped.
  char State() const;

 private:
  // Throws TargetGone where another program, or another process of this number, is there by now.
  void RequireSameProgram() const;
  // `what` completes "which cannot be asked ...".
  void ReadWords(std::uint64_t address, void* to, std::size_t bytes, const char* what) const;
  void WriteWords(std::uint64_t address, const void* from, std::size_t bytes) const;

  pid_t pid_;
  std::string name_;
  SnapshotPlace place_;
  ProcessMemory memory_;
  SnapshotReader<ProcessMemory> reader_;
};

// The name of a process, as ps shows it; empty when there is no such process.
std::string ProcessName(pid_t pid);

// "4711 (redis-server)"
std::string Describe(pid_t pid);

// The maps of a process, or a ToolError that says why not and what to do.
std::vector<ProcessMapping> MapsOfTarget(const ProcessMemory& memory);

// A PID as the user typed it.
pid_t ParsePid(const std::string& text);

}  // namespace tarn::tool
