// SPDX-License-Identifier: Apache-2.0
//
// Locked memory in tests: of this kernel, and of one before Linux 5.18.
#pragma once

#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstddef>
#include <thread>

#include "tests/os/in_child.h"

namespace tarn_test {

// By the system call, for sanitizers make nothing of libc's functions.
inline bool LockMemory(const void* start, std::size_t bytes) { return syscall(SYS_mlock, start, bytes) == 0; }
inline void UnlockMemory(const void* start, std::size_t bytes) { ASSERT_EQ(syscall(SYS_munlock, start, bytes), 0); }

#define TARN_LOCK_OR_SKIP(start, bytes) \
  if (!tarn_test::LockMemory(start, bytes)) GTEST_SKIP() << "RLIMIT_MEMLOCK is too low"

// Runs a test's body in a thread where the kernel refuses to release locked memory.
template <typename Body>
void WhereLockedMemoryIsKept(Body body) {
  bool filtered = false;
  std::thread([&] {
    filtered = KeepLockedMemory();
    if (filtered) body();
  }).join();
  if (!filtered) GTEST_SKIP() << "the kernel has no seccomp";
}

}  // namespace tarn_test
