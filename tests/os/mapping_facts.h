// SPDX-License-Identifier: Apache-2.0
//
// The kernel's facts about the mappings of this process, for tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace tarn_test {

// Returns the text behind `name` in /proc/PID/smaps, of the mapping around an address (proc(5)). Empty where nothing is
// mapped, or the kernel does not say.
inline std::string MappingFact(const void* address, const char* name) {
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  FILE* file = fopen("/proc/self/smaps", "r");
  if (file == nullptr) return "";
  char line[1024];
  bool inside = false;
  std::string fact;
  while (fgets(line, sizeof(line), file) != nullptr) {
    unsigned long start = 0;
    unsigned long end = 0;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2) inside = start <= wanted && wanted < end;
    if (inside && strncmp(line, name, strlen(name)) == 0) fact = line + strlen(name);
  }
  fclose(file);
  return fact;
}

// The flags of the mapping: " lo" is locked, " dd" left out of core dumps.
inline std::string MappingFlags(const void* address) { return MappingFact(address, "VmFlags:"); }

// The bytes of the mapping that are locked and resident.
inline std::size_t LockedBytes(const void* address) {
  return std::size_t{1024} * std::strtoul(MappingFact(address, "Locked:").c_str(), nullptr, 10);
}

inline bool HasMappingFlag(const void* address, const char* flag) {
  return (MappingFlags(address) + " ").find(std::string(" ") + flag + " ") != std::string::npos;
}

}  // namespace tarn_test
