// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/bare_thread.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <time.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>

#include "allocator/base/units.h"
#include "allocator/os/clone_x86_64.h"
#include "allocator/os/futex.h"
#include "allocator/os/last_thread.h"
#include "allocator/os/process.h"
#include "allocator/os/system_call.h"
#include "allocator/os/thread_filter.h"
#include "allocator/os/thread_state.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

// The scavenger needs a few KiB; the rest is never touched.
constexpr std::size_t kStackBytes = std::size_t{64} << 10;
// Around the words of thread-local memory that are in use: those of libc's that lie beside errno, and the rest of the
// thread control block, of which glibc's has 2304 bytes.
constexpr std::size_t kTlsMarginBytes = std::size_t{8} << 10;

// The kernel's: a set of 64 signals, whatever libc's type holds.
constexpr std::size_t kKernelSignalBytes = 8;

struct BareThread {
  void (*body)(BareThreadBegin) = nullptr;
  const char* name = nullptr;
  std::ptrdiff_t rseq_id_offset = 0;
  // Stack and thread-local memory: made at the first start and kept, for a thread cannot unmap what it stands on.
  char* memory = nullptr;
  char* stack_end = nullptr;
  char* thread_pointer = nullptr;
  // The thread's id. Set before it runs; zeroed by the kernel when it has left its stack for good.
  std::atomic<int> id = 0;
  // The number of callers that hold the thread away just now.
  std::atomic<std::uint32_t> holds = 0;
  long process_id = 0;
  LastThread last;
  bool keep_stderr = false;
};

constinit BareThread bare_thread;

[[noreturn]] void Main() {
  // Our block of thread-local memory begins as zeroes, and is not all zero in a fresh thread.
  ::new (&thread_state) ThreadState;
  bare_thread.last.Begin();
  char* const thread_pointer = static_cast<char*>(__builtin_thread_pointer());
  *reinterpret_cast<volatile std::int32_t*>(thread_pointer + bare_thread.rseq_id_offset) = -1;
  static_cast<void>(SystemCall(SYS_prctl, PR_SET_NAME, bare_thread.name, 0, 0, 0));
  thread_state.is_background = true;
  bare_thread.body(StripThread(bare_thread.keep_stderr) ? BareThreadBegin::kStripped : BareThreadBegin::kRefused);
  bare_thread.last.End();
  while (true) static_cast<void>(SystemCall(SYS_exit, 0));
}

bool MakeMemory(std::ptrdiff_t rseq_id_offset, std::ptrdiff_t rseq_cs_offset) {
  const std::ptrdiff_t offsets[] = {ThreadPointerOffset(&thread_state), ThreadPointerOffset(&errno), rseq_id_offset,
                                    rseq_cs_offset, 0};
  const std::ptrdiff_t lowest = *std::ranges::min_element(offsets);
  const std::ptrdiff_t highest = *std::ranges::max_element(offsets);
  const std::size_t os_page_bytes = OsPageBytes();
  const std::size_t below = RoundUp(static_cast<std::size_t>(-lowest) + kTlsMarginBytes, os_page_bytes);
  const std::size_t above = RoundUp(static_cast<std::size_t>(highest) + kTlsMarginBytes, os_page_bytes);
  const std::size_t guard_bytes = os_page_bytes;
  const std::size_t stack_bytes = RoundUp(kStackBytes, os_page_bytes);
  const std::size_t all_bytes = guard_bytes + stack_bytes + below + above;
  auto* memory = static_cast<char*>(Reserve(all_bytes, os_page_bytes));
  if (memory == nullptr) return false;
  if (!Commit(memory + guard_bytes, all_bytes - guard_bytes)) {
    Unreserve(memory, all_bytes);
    return false;
  }
  NameMemory(memory, all_bytes, "tarn scavenger");
  bare_thread.memory = memory;
  bare_thread.stack_end = memory + guard_bytes + stack_bytes;
  bare_thread.thread_pointer = bare_thread.stack_end + below;
  return true;
}

// The thread control block of x86-64: what compilers and libc find at fixed places behind the thread pointer
// (the psABI's "Thread-Local Storage"; glibc's sysdeps/x86_64/nptl/tls.h, tcbhead_t).
void FillControlBlock() {
  constexpr int kSelf = 0;
  constexpr int kDescriptor = 2;
  constexpr int kStackGuard = 5;
  constexpr int kPointerGuard = 6;
  auto* words = reinterpret_cast<std::uintptr_t*>(bare_thread.thread_pointer);
  const auto* own_words = static_cast<const std::uintptr_t*>(__builtin_thread_pointer());
  words[kSelf] = reinterpret_cast<std::uintptr_t>(words);
  words[kDescriptor] = reinterpret_cast<std::uintptr_t>(words);
  words[kStackGuard] = own_words[kStackGuard];
  words[kPointerGuard] = own_words[kPointerGuard];
}

}  // namespace

BareThreadStart StartBareThread(void (*body)(BareThreadBegin), const char* name, bool keep_stderr,
                                std::ptrdiff_t rseq_id_offset, std::ptrdiff_t rseq_cs_offset) {
  int expected = 0;
  // Acquire pairs with the kernel's zeroing: whatever the last thread did to its memory is done. Not 0 and no id of a
  // thread's yet, so that nobody else starts one.
  if (!bare_thread.id.compare_exchange_strong(expected, -1)) return BareThreadStart::kAlive;
  if (bare_thread.holds.load() != 0) {
    bare_thread.id.store(0);
    return BareThreadStart::kAlive;
  }
  bare_thread.last.AwaitEnd();
  if (bare_thread.memory == nullptr && !MakeMemory(rseq_id_offset, rseq_cs_offset)) {
    bare_thread.id.store(0, std::memory_order_release);
    return BareThreadStart::kFailed;
  }
  bare_thread.body = body;
  bare_thread.name = name;
  bare_thread.keep_stderr = keep_stderr;
  bare_thread.process_id = SystemCall(SYS_getpid);
  bare_thread.rseq_id_offset = rseq_id_offset;
  FillControlBlock();

  // A new thread inherits the mask; the set is the kernel's, because libc's calls leave its own signals out.
  const std::uint64_t all = ~std::uint64_t{0};
  std::uint64_t before = 0;
  static_cast<void>(SystemCall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, kKernelSignalBytes));
  // The flags of a POSIX thread, all of them: valgrind and qemu-user know no other kind.
  constexpr int kFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                         CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
  auto* const id = reinterpret_cast<int*>(&bare_thread.id);
  const long result = CloneThread(kFlags, bare_thread.stack_end, id, id, bare_thread.thread_pointer, &Main);
  static_cast<void>(SystemCall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, kKernelSignalBytes));
  if (result >= 0) return BareThreadStart::kStarted;
  bare_thread.id.store(0, std::memory_order_release);
  return BareThreadStart::kFailed;
}

bool BareThreadIsAlive() { return bare_thread.id.load(std::memory_order_acquire) != 0; }

void ForgetBareThreadInForkedChild() {
  bare_thread.id.store(0, std::memory_order_relaxed);
  bare_thread.holds.store(0, std::memory_order_relaxed);
  bare_thread.last.Forget();
}

bool FirstThreadHasSameIds() {
  // Reading a limit of another thread takes the same ids, as the caller has no capabilities (prlimit(2)).
  std::uint64_t limits[2];
  constexpr int kOpenFiles = 7;
  return SystemCall(SYS_prlimit64, bare_thread.process_id, kOpenFiles, nullptr, limits) == 0;
}

// The first thread, this one, and another.
bool ProcessIsAsItWas() { return FirstThreadHasSameIds() && CountThreads() >= 3; }

// --- The end -------------------------------------------------------------------------------------------------------

// `holds` and `id` are one protocol (all seq_cst): who starts claims the id and then looks at `holds`; who holds raises
// `holds` and then looks at the id. So either the start is given up, or the holder waits for the thread's end.

void HoldBareThread() {
  bare_thread.holds.fetch_add(1);
  // The word that the thread sleeps on.
  WakeWaiters(bare_thread.holds);
  auto* const id = reinterpret_cast<int*>(&bare_thread.id);
  while (const int value = bare_thread.id.load()) {
    // The kernel wakes one waiter when it zeroes the id, and wakes those that map the word from elsewhere, too: not the
    // private kind. The bound is for a start that is given up or under way, which wakes nobody.
    const timespec some_time = {0, 1'000'000};
    SystemCall(SYS_futex, id, FUTEX_WAIT, value, &some_time, nullptr, 0);
  }
  SystemCall(SYS_futex, id, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

void AwaitEndOfBareThread() { bare_thread.last.AwaitEnd(); }

void LetBareThread() { bare_thread.holds.fetch_sub(1); }

bool BareThreadIsHeld() { return bare_thread.holds.load() != 0; }

void SleepUnlessHeld(std::uint32_t milliseconds) { WaitOnWord(bare_thread.holds, 0, milliseconds); }

}  // namespace tarn
