// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/thread_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <cstddef>
#include <cstdint>
#include <iterator>

#include "allocator/os/known_paths.h"
#include "allocator/os/system_call.h"

namespace tarn {

namespace {

// A call's number, the same on all architectures but alpha; and of linux/close_range.h. Older headers lack them.
constexpr std::uint32_t kProcessMadvise = 440;
constexpr long kCloseRange = 436;
constexpr unsigned kCloseRangeUnshare = 2;

constexpr std::uint32_t kRefuse = SECCOMP_RET_ERRNO | EPERM;

constexpr std::uint32_t ArgumentOffset(int index, bool high) {
  return static_cast<std::uint32_t>(offsetof(seccomp_data, args) + static_cast<std::size_t>(index) * 8 +
                                    (high ? 4 : 0));
}

// A filter is a program that only jumps forwards. Each rule ends in a decision or goes on with the next one; the number
// of the call is loaded again where a rule has loaded something else.
class Filter {
 public:
  // All of the calls with this number.
  void Allow(std::uint32_t number) {
    Add(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1);
    Add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  }
  // Those whose argument is this one.
  void AllowWhere(std::uint32_t number, int argument, std::uint64_t value) {
    Add(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 6);
    Add(BPF_LD | BPF_W | BPF_ABS, ArgumentOffset(argument, false));
    Add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(value), 0, 3);
    Add(BPF_LD | BPF_W | BPF_ABS, ArgumentOffset(argument, true));
    Add(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(value >> 32), 0, 1);
    Add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    LoadNumber();
  }
  // Those without these bits in the low half of the argument.
  void AllowWithout(std::uint32_t number, int argument, std::uint32_t bits) {
    Add(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 4);
    Add(BPF_LD | BPF_W | BPF_ABS, ArgumentOffset(argument, false));
    Add(BPF_JMP | BPF_JSET | BPF_K, bits, 1, 0);
    Add(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    LoadNumber();
  }
  void RequireArchitecture(std::uint32_t architecture) {
    Add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, arch));
    Add(BPF_JMP | BPF_JEQ | BPF_K, architecture, 1, 0);
    Add(BPF_RET | BPF_K, kRefuse);
    LoadNumber();
  }
  // Once, at the end.
  bool Install() {
    Add(BPF_RET | BPF_K, kRefuse);
    if (count_ > std::size(program_)) return false;
    const sock_fprog program = {static_cast<unsigned short>(count_), program_};
    return SystemCall(SYS_prctl, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
  }

 private:
  void LoadNumber() { Add(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)); }
  void Add(int code, std::uint32_t value, std::uint8_t if_true = 0, std::uint8_t if_false = 0) {
    if (count_ < std::size(program_)) program_[count_] = {static_cast<std::uint16_t>(code), if_true, if_false, value};
    ++count_;
  }

  sock_filter program_[128];
  std::size_t count_ = 0;
};

bool InstallFilter() {
  const auto process_id = static_cast<std::uint64_t>(SystemCall(SYS_getpid));
  const auto address = [](const char* path) { return std::uint64_t{reinterpret_cast<std::uintptr_t>(path)}; };
  Filter filter;
  filter.RequireArchitecture(AUDIT_ARCH_X86_64);
  for (const int number : {SYS_futex, SYS_madvise, SYS_munmap, SYS_membarrier, SYS_clock_gettime, SYS_exit}) {
    filter.Allow(static_cast<std::uint32_t>(number));
  }
  filter.Allow(kProcessMadvise);
  filter.AllowWithout(SYS_mmap, 2, PROT_EXEC);
  filter.AllowWithout(SYS_mprotect, 2, PROT_EXEC);
  // These read the number of threads; whether the ids are still those of the first thread, of which only a limit is
  // read; and resident memory.
  filter.AllowWhere(SYS_newfstatat, 1, address(kTasksPath));
  filter.AllowWhere(SYS_prlimit64, 2, 0);
  filter.AllowWhere(SYS_openat, 1, address(kStatmPath));
  filter.Allow(SYS_read);
  // The end of the process after a misuse, with a line on stderr. The thread has no descriptors but what it opens by
  // these.
  filter.AllowWhere(SYS_openat, 1, address(kFirstStderrPath));
  for (const int number : {SYS_write, SYS_close, SYS_getpid, SYS_gettid, SYS_rt_sigprocmask}) {
    filter.Allow(static_cast<std::uint32_t>(number));
  }
  filter.AllowWhere(SYS_tgkill, 0, process_id);
  return filter.Install();
}

}  // namespace

bool StripThread(bool keep_stderr) {
  // Its own table, into which nothing is copied, in one step: a copy would keep files and pipes open. (Linux 5.9)
  if (SystemCall(kCloseRange, keep_stderr ? 3 : 0, ~0u, kCloseRangeUnshare) != 0) return false;
  if (keep_stderr && SystemCall(kCloseRange, 0, 1, 0) != 0) return false;
  if (SystemCall(SYS_unshare, CLONE_FS) != 0 || SystemCall(SYS_chdir, "/") != 0) return false;
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  if (SystemCall(SYS_capset, &header, none) != 0) return false;
  return SystemCall(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && InstallFilter();
}

}  // namespace tarn
