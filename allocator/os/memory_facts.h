// SPDX-License-Identifier: Apache-2.0
//
// Reads the kernel's figures of memory: how much the process has, and how much it may have.
//
// All functions allocate nothing and may change errno. They read files of /proc and /sys, which takes some ten
// microseconds each.
#pragma once

#include <cstddef>

namespace tarn {

// Resident bytes of the process, as /proc/self/statm has them; 0 when it cannot be read.
std::size_t ResidentBytes();

// The machine's memory in bytes.
std::size_t PhysicalMemoryBytes();

// The least limit of the memory cgroups that the process is in: memory.max of cgroup v2, memory.limit_in_bytes of v1
// (the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst), over all levels up to the root that
// is mounted. SIZE_MAX where there is none, or none that is below the machine's memory.
std::size_t ContainerLimitBytes();

}  // namespace tarn
