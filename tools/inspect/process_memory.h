// SPDX-License-Identifier: Apache-2.0
//
// Reads and writes the memory of a process.
//
// Of another process by one descriptor of /proc/PID/mem, opened at the start. The kernel ties it to the program that
// runs then: once the process has ended or runs another program, nothing is read or written by it any more. So a number
// that went to another process, or a program that took the place of the first, is never taken for the target.
// Where that file cannot be opened, process_vm_readv(2) and process_vm_writev(2) do the same without that promise.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace tarn::tool {

// The Memory of a SnapshotReader.
class ProcessMemory {
 public:
  explicit ProcessMemory(pid_t pid);
  ~ProcessMemory();
  ProcessMemory(const ProcessMemory&) = delete;
  ProcessMemory& operator=(const ProcessMemory&) = delete;

  // Copies memory of the process, which goes on. False, with errno, when not all of it can be read.
  bool Read(std::uint64_t address, void* to, std::size_t bytes) const;
  // Writes into it. False, with errno, when not all of it can be written.
  bool Write(std::uint64_t address, const void* from, std::size_t bytes) const;

  pid_t pid() const { return pid_; }
  // True where another program in the process would be noticed.
  bool is_tied() const { return file_ >= 0; }

 private:
  pid_t pid_;
  int file_ = -1;
  bool writes_ = false;
};

}  // namespace tarn::tool
