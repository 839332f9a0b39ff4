// SPDX-License-Identifier: Apache-2.0
//
// Reads and writes the memory of another process, by process_vm_readv(2) and process_vm_writev(2).
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>

namespace tarn::tool {

// Copies memory of a process, which goes on. False, with errno, when not all of it can be read.
bool ReadProcessMemory(pid_t pid, std::uint64_t address, void* to, std::size_t bytes);

// Writes into it, where the process itself may. False, with errno, when not all of it can be written.
bool WriteProcessMemory(pid_t pid, std::uint64_t address, const void* from, std::size_t bytes);

// The Memory of a SnapshotReader.
class ProcessMemory {
 public:
  explicit ProcessMemory(pid_t pid) : pid_(pid) {}
  bool Read(std::uint64_t address, void* to, std::size_t bytes) const {
    return ReadProcessMemory(pid_, address, to, bytes);
  }

 private:
  pid_t pid_;
};

}  // namespace tarn::tool
