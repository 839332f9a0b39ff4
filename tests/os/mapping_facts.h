// SPDX-License-Identifier: Apache-2.0
//
// The kernel's facts about the mappings of this process, for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace tarn_test {

// The flags of the mapping around an address, as in /proc/PID/smaps (proc(5), VmFlags): " lo" is locked, " dd" left out
// of core dumps. Empty where nothing is mapped, or the kernel does not say.
inline std::string MappingFlags(const void* address) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  FILE* file = fopen("/proc/self/smaps", "r");
  if (file == nullptr) return "";
  char line[1024];
  bool inside = false;
  std::string flags;
  while (fgets(line, sizeof(line), file) != nullptr) {
    unsigned long start = 0;
    unsigned long end = 0;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) inside = start <= wanted && wanted < end;
    if (inside && strncmp(line, "VmFlags:", 8) == 0) flags = line + 8;
  }
  fclose(file);
  return flags;
}

inline bool HasMappingFlag(const void* address, const char* flag) {
  return (MappingFlags(address) + " ").find(std::string(" ") + flag + " ") != std::string::npos;
}

}  // namespace tarn_test
