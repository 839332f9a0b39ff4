// SPDX-License-Identifier: Apache-2.0
//
// Code that runs in a forked child, for the tests of all rooms: limits, refused system calls, last words.
//
// googletest's assertions do not reach out of a child, so the body says TARN_REQUIRE, and the test expects that there
// was no complaint:
//
//   EXPECT_EQ(ComplaintOfChild([] { TARN_REQUIRE(1 + 1 == 2); }), "");
#pragma once

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/base/patience.h"

#define TARN_REQUIRE(condition)                                                            \
  do {                                                                                     \
    if (!(condition)) {                                                                    \
      dprintf(2, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno); \
      _exit(1);                                                                            \
    }                                                                                      \
  } while (false)

namespace tarn_test {

// A sanitizer's run-time library maps terabytes and makes system calls of its own, so limits are not tried with it.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif
#else
inline constexpr bool kAddressSanitizer = false;
#endif
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kThreadSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
inline constexpr bool kThreadSanitizer = true;
#else
inline constexpr bool kThreadSanitizer = false;
#endif
#else
inline constexpr bool kThreadSanitizer = false;
#endif
inline constexpr bool kSanitized = kAddressSanitizer || kThreadSanitizer;

struct ChildEnd {
  int exit_code = -1;  // -1: ended by a signal
  int signal = 0;
  std::string output;  // its stderr
};

// Runs the body in a child whose stderr is caught. A child that hangs ends itself.
template <typename Body>
ChildEnd RunInChild(Body body) {
  ChildEnd end;
  int ends[2];
  if (pipe(ends) != 0) return end;
  const pid_t child = fork();
  if (child == 0) {
    alarm(kPatienceSeconds);
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    body();
    _exit(0);
  }
  close(ends[1]);
  char buffer[4096];
  while (true) {
    const ssize_t got = read(ends[0], buffer, sizeof(buffer));
    if (got > 0) end.output.append(buffer, static_cast<std::size_t>(got));
    if (got == 0 || (got < 0 && errno != EINTR)) break;
  }
  close(ends[0]);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) end.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) end.signal = WTERMSIG(status);
  return end;
}

// Empty when the child exited with 0.
template <typename Body>
std::string ComplaintOfChild(Body body) {
  const ChildEnd end = RunInChild(body);
  if (end.exit_code == 0) return "";
  return "exit code " + std::to_string(end.exit_code) + ", signal " + std::to_string(end.signal) + ": " + end.output;
}

// True where a thread of this process waits in the kernel (proc(5), stat: the state is the third field).
inline bool ThreadSleeps(std::uint32_t thread) {
  char text[256] = {};
  snprintf(text, sizeof(text), "/proc/self/task/%u/stat", thread);
  FILE* file = fopen(text, "r");
  const bool is_read = file != nullptr && fgets(text, sizeof(text), file) != nullptr;
  if (file != nullptr) fclose(file);
  const char* end_of_name = is_read ? strrchr(text, ')') : nullptr;
  return end_of_name != nullptr && end_of_name[2] == 'S';
}

struct MemoryUse {
  std::size_t address_space_bytes = 0;  // as RLIMIT_AS counts them
  std::size_t data_bytes = 0;           // as RLIMIT_DATA does, and the stack
};
inline MemoryUse ReadMemoryUse() {
  FILE* file = fopen("/proc/self/statm", "r");
  unsigned long address_space = 0;
  unsigned long data = 0;
  if (file == nullptr || fscanf(file, "%lu %*u %*u %*u %*u %lu", &address_space, &data) != 2) address_space = data = 0;
  if (file != nullptr) fclose(file);
  const auto page_bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return {address_space * page_bytes, data * page_bytes};
}
inline std::size_t AddressSpaceBytes() { return ReadMemoryUse().address_space_bytes; }

// From here on the process gets that much address space more, and nothing beyond. For children only.
inline void LimitFurtherAddressSpace(std::size_t bytes) {
  struct rlimit limit = {};
  limit.rlim_cur = limit.rlim_max = AddressSpaceBytes() + bytes;
  TARN_REQUIRE(setrlimit(RLIMIT_AS, &limit) == 0);
}

// The same for memory that is charged to the process because it may be written.
inline void LimitFurtherData(std::size_t bytes) {
  struct rlimit limit = {};
  limit.rlim_cur = limit.rlim_max = ReadMemoryUse().data_bytes + bytes;
  TARN_REQUIRE(setrlimit(RLIMIT_DATA, &limit) == 0);
}

// For the calling thread. False where there is no seccomp.
template <std::size_t kLength>
inline bool InstallFilter(sock_filter (&filter)[kLength]) {
  struct sock_fprog program = {};
  program.len = kLength;
  program.filter = filter;
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// From here on the kernel refuses the system call with the error. For children only; false where there is no seccomp.
inline bool RefuseSystemCall(long number, int error) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return InstallFilter(filter);
}

// From here on locked memory is not released in the calling thread, as before Linux 5.18: MADV_DONTNEED_LOCKED is
// unknown. False where there is no seccomp.
inline bool KeepLockedMemory() {
  constexpr std::uint32_t kDontNeedLocked = 24;
  constexpr std::uint32_t kProcessMadvise = 440;
  constexpr auto argument = [](int index) {
    return static_cast<std::uint32_t>(offsetof(struct seccomp_data, args)) + static_cast<std::uint32_t>(index) * 8;
  };
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kProcessMadvise, 3, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument(2)),
      BPF_JUMP(BPF_JMP | BPF_JA, 1, 0, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, argument(3)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kDontNeedLocked, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  return InstallFilter(filter);
}

}  // namespace tarn_test
