// SPDX-License-Identifier: Apache-2.0
//
// The mappings of a process: its /proc/PID/maps, and the build-ids of the files in it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tools/inspect/process_memory.h"

namespace tarn::tool {

// A line of /proc/PID/maps.
struct ProcessMapping {
  std::uint64_t start = 0;
  std::uint64_t limit = 0;
  std::uint64_t offset = 0;
  std::uint64_t inode = 0;  // 0: of no file
  bool is_readable = false;
  bool is_writable = false;
  bool is_executable = false;
  std::string file;         // as the process sees it, without " (deleted)"; "[anon]" where there is no name
  bool is_deleted = false;  // the file has gone since, or was replaced
  std::string build_id;     // filled in by ReadCode alone; empty where there is none or it cannot be read
};

// In the order of addresses. Throws ToolError when /proc/PID/maps cannot be read, with the reason. A process may have
// very many mappings with very long names; what is beyond 64 MiB of text is left out.
std::vector<ProcessMapping> ReadMaps(pid_t pid);

// The executable ones of these, with build-ids from the memory of the process.
std::vector<ProcessMapping> ReadCode(const ProcessMemory& memory, const std::vector<ProcessMapping>& maps);

// True of a program of 32 bits: nothing of it lies above 4 GiB, where other programs have their stack.
bool IsOf32Bits(const std::vector<ProcessMapping>& maps);

// The text of a maps file. Lines that are none are left out.
std::vector<ProcessMapping> ParseMaps(const std::string& text);

// The note NT_GNU_BUILD_ID in an area of ELF notes, as hexadecimal digits; empty when there is none.
std::string FindBuildId(const std::string& notes);

}  // namespace tarn::tool
