// SPDX-License-Identifier: Apache-2.0
//
// Slow paths that a signal handler interrupts, or jumps out of by siglongjmp: what the thread may do afterwards.
//
// A test opens the scope itself, and holds the lock itself, so that the signal strikes exactly there. Each in a forked
// child.

#include <gtest/gtest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <thread>

#include "allocator/entry/allocate.h"
#include "allocator/entry/free.h"
#include "allocator/heap/process_heap.h"
#include "allocator/os/process.h"
#include "allocator/os/thread_state.h"
#include "tests/os/in_child.h"
#include "tests/os/single_step.h"

namespace tarn {
namespace {

using tarn_test::ChildEnd;
using tarn_test::ComplaintOfChild;
using tarn_test::RunInChild;

// A large object: every allocation and free of one is a slow path.
constexpr std::size_t kLarge = 600000;
constexpr char kAbandoned[] =
    "tarn: fatal: a signal handler jumped out of malloc or free (longjmp) while this thread held a lock of tarn\n";

sigjmp_buf g_back;
void* volatile g_of_handler;
std::uint32_t g_depth_in_handler;

void Jump(int) { siglongjmp(g_back, 1); }

void Allocate(int) {
  g_of_handler = AllocateSlow(kLarge, Request::kMalloc);
  g_depth_in_handler = thread_state.slow_path_depth;
}

void Handle(void (*handler)(int), int flags = 0) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = flags;
  TARN_REQUIRE(sigaction(SIGUSR1, &action, nullptr) == 0);
}

void Start() {
  process_heap.EnsureStarted();
  FreeSlow(AllocateSlow(kLarge, Request::kMalloc), "free");
  TARN_REQUIRE(thread_state.slow_path_depth == 0);
}

// Calls the body that much deeper on the stack. Writes the bytes between, or leaves them as they are.
template <std::size_t kBytes = std::size_t{64} << 10, bool kWrites = false, typename Body>
[[gnu::noinline]] void Deeper(const Body& body) {
  char room[kBytes];
  // No byte of a mark, and no address of a stack.
  if (kWrites) std::fill(std::begin(room), std::end(room), '\x7f');
  // The compiler must take it for used, all of it.
  asm volatile("" : : "r"(room) : "memory");
  body();
  asm volatile("" : : "r"(room) : "memory");
}

// Below the place that JumpOutOfSlowPath leaves: the frames between leave what stands there alone, or write over it.
constexpr std::size_t kBelowTheMark = std::size_t{192} << 10;
template <typename Body>
void BelowTheMark(const Body& body) {
  Deeper<kBelowTheMark, false>(body);
}
template <typename Body>
void BelowTheLostMark(const Body& body) {
  Deeper<kBelowTheMark, true>(body);
}

void JumpOutOfSlowPath(Lock* lock) TARN_NO_THREAD_SAFETY_ANALYSIS {
  if (sigsetjmp(g_back, 1) != 0) return;
  Deeper([lock]() TARN_NO_THREAD_SAFETY_ANALYSIS {
    SlowPathScope scope(SlowPathScope::Opener::kProgram);
    TARN_REQUIRE(!scope.nested());
    if (lock != nullptr) lock->Acquire();
    raise(SIGUSR1);
    TARN_REQUIRE(false);
  });
}

void AllocateAndFree() {
  void* object = AllocateSlow(kLarge, Request::kMalloc);
  TARN_REQUIRE(object != nullptr);
  FreeSlow(object, "free");
}

TEST(Jump, TheNextSlowPathAboveDropsTheMark) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start();
              Handle(Jump);
              for (int i = 0; i < 3; ++i) {
                JumpOutOfSlowPath(nullptr);
                TARN_REQUIRE(thread_state.slow_path_depth == 1);
                AllocateAndFree();
                TARN_REQUIRE(thread_state.slow_path_depth == 0);
              }
            }),
            "");
}

// The child would not repair its heap otherwise.
TEST(Jump, AForkAboveDropsTheMark) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start();
              Handle(Jump);
              std::atomic<bool> stop = false;
              RegisterForkHandlers();
              // Without another thread a fork has nothing to do.
              std::thread other([&stop] { stop.wait(false); });
              JumpOutOfSlowPath(nullptr);
              TARN_REQUIRE(thread_state.slow_path_depth == 1);
              const pid_t child = fork();
              TARN_REQUIRE(thread_state.slow_path_depth == 0);
              if (child == 0) _exit(0);
              int status = -1;
              TARN_REQUIRE(waitpid(child, &status, 0) == child && status == 0);
              stop = true;
              stop.notify_all();
              other.join();
            }),
            "");
}

// Nothing proves the jump there: allocations succeed all the same, and the mark is dropped after a while.
TEST(Jump, SlowPathsBelowGoOnAndDropTheMarkInTime) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start();
              Handle(Jump);
              JumpOutOfSlowPath(nullptr);
              BelowTheMark([] {
                AllocateAndFree();
                TARN_REQUIRE(thread_state.slow_path_depth == 1);
                for (std::uint32_t i = 0; i < SlowPathScope::kForgetAfter; ++i) AllocateAndFree();
                TARN_REQUIRE(thread_state.slow_path_depth == 0);
              });
              // The memory of it goes with the proof.
              TARN_REQUIRE(thread_state.forgotten_slow_path != nullptr);
              BelowTheLostMark(AllocateAndFree);
              TARN_REQUIRE(thread_state.forgotten_slow_path == nullptr);
            }),
            "");
}

TEST(Jump, SlowPathsBelowDropTheMarkWhereItsWordIsLost) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start();
              Handle(Jump);
              JumpOutOfSlowPath(nullptr);
              BelowTheLostMark([] {
                AllocateAndFree();
                TARN_REQUIRE(thread_state.slow_path_depth == 0);
                TARN_REQUIRE(thread_state.forgotten_slow_path == nullptr);
              });
            }),
            "");
}

TEST(Jump, ALimitsCheckThatWasLeftIsNotTakenForOneUnderWay) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start();
              Handle(Jump);
              process_heap.SetMemoryLimit({LimitSetting::Kind::kBytes, std::size_t{1} << 40});
              JumpOutOfSlowPath(nullptr);
              AllocateAndFree();
              const std::uint64_t before = process_heap.limits.published()->checks;
              process_heap.limits.Check(true);
              TARN_REQUIRE(process_heap.limits.published()->checks == before + 1);
            }),
            "");
}

// Stops these calls from now on, each by a SIGSYS. False: the system has no such filters.
bool TrapCalls(std::uint32_t number) {
  struct sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  struct sock_fprog program = {static_cast<unsigned short>(std::size(filter)), filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// The first call is jumped out of; the later ones return without doing anything.
std::atomic<int> g_traps = 0;
void OnTrap(int) {
  if (g_traps.fetch_add(1) == 0) siglongjmp(g_back, 1);
}

void ReleaseAll() {
  SlowPathScope scope(SlowPathScope::Opener::kProgram);
  static_cast<void>(process_heap.page_heap.ReleaseFree(0, true));
}

// Runs the body with the stack below the caller's frame full of a pattern, and fails if anything has changed there.
template <typename Body>
[[gnu::noinline]] void WatchTheStackBelow(const Body& body) {
  constexpr unsigned char kPattern = 0x5a;
  unsigned char room[128 << 10];
  std::fill(std::begin(room), std::end(room), kPattern);
  asm volatile("" : : "r"(room) : "memory");
  body();
  asm volatile("" : : "r"(room) : "memory");
  TARN_REQUIRE(std::all_of(std::begin(room), std::end(room), [](auto byte) { return byte == kPattern; }));
}

// The pages that were on their way are lost. Nothing of tarn's may write to the stack that the jump has given up.
TEST(Jump, OutOfAReleaseLeavesNothingOnTheStack) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start();
              PageHeap& page_heap = process_heap.page_heap;
              bool zero;
              page_heap.Deallocate(page_heap.AllocateLarge(PageCount::FromHugePages(4), PageCount(1), &zero));
              struct sigaction action = {};
              action.sa_handler = OnTrap;
              TARN_REQUIRE(sigaction(SIGSYS, &action, nullptr) == 0);
              if (!TrapCalls(SYS_madvise)) return;
              if (sigsetjmp(g_back, 1) == 0) {
                Deeper([] { ReleaseAll(); });
                TARN_REQUIRE(g_traps != 0);
              }
              TARN_REQUIRE(g_traps == 1);
              WatchTheStackBelow([] {
                ReleaseAll();
                AllocateAndFree();
              });
            }),
            "");
}

// Has each opening of a file jumped out of. What the process reads once has been read.
bool JumpOutOfOpenings() {
  Start();
  process_heap.limits.Check(true);
  struct sigaction action = {};
  action.sa_handler = [](int) {
    ++g_traps;
    siglongjmp(g_back, 1);
  };
  TARN_REQUIRE(sigaction(SIGSYS, &action, nullptr) == 0);
  return TrapCalls(SYS_openat);
}

TEST(Jump, AWriterOfProfilesThatWasLeftIsNotTakenForOneUnderWay) {
  EXPECT_EQ(ComplaintOfChild([] {
              if (!JumpOutOfOpenings()) return;
              for (int i = 0; i < 3; ++i) {
                if (sigsetjmp(g_back, 1) == 0) {
                  Deeper([] { process_heap.profile_dumps.AttendPeak(); });
                  TARN_REQUIRE(false);
                }
                AllocateAndFree();
              }
              TARN_REQUIRE(g_traps == 3);
            }),
            "");
}

void AskForLimit(std::uint64_t request, std::uint64_t bytes) {
  // As `tarn limit` does from outside.
  auto* words = const_cast<tarn_snapshot_limit_request*>(process_heap.scavenger.limit_request_words());
  words->request_bytes = bytes;
  words->check = TARN_SNAPSHOT_LIMIT_CHECK(request, bytes);
  words->request = request;
}

TEST(Jump, AnAnswerToARequestThatWasLeftIsNotTakenForOneUnderWay) {
  EXPECT_EQ(ComplaintOfChild([] {
              if (!JumpOutOfOpenings()) return;
              const tarn_snapshot_limit_request& words = *process_heap.scavenger.limit_request_words();
              // The limit of the cgroup, for which files are read.
              AskForLimit(1, 0);
              if (sigsetjmp(g_back, 1) == 0) {
                Deeper([] { process_heap.scavenger.Tick(); });
                TARN_REQUIRE(false);
              }
              TARN_REQUIRE(g_traps == 1 && words.answered == 0);
              AskForLimit(2, std::uint64_t{1} << 40);
              // The next slow path answers. The look at the limit behind the answer reads a file, too.
              if (sigsetjmp(g_back, 1) == 0) AllocateAndFree();
              TARN_REQUIRE(words.answered == 2 && process_heap.limits.soft_bytes() == std::size_t{1} << 40);
            }),
            "");
}

TEST(Jump, WithALockHeldEndsWithALine) {
  const ChildEnd end = RunInChild([] {
    Start();
    Handle(Jump);
    JumpOutOfSlowPath(&process_heap.page_heap.lock());
    AllocateAndFree();
  });
  EXPECT_EQ(end.signal, SIGABRT);
  EXPECT_EQ(end.output, kAbandoned);
}

// The thread goes on below the place that it was thrown from. It gets NULL while it may be a handler of the slow path.
TEST(Jump, WithALockHeldEndsWithALineAlsoBelow) {
  const ChildEnd end = RunInChild([] {
    Start();
    Handle(Jump);
    JumpOutOfSlowPath(&process_heap.page_heap.lock());
    BelowTheMark([] { TARN_REQUIRE(AllocateSlow(kLarge, Request::kMalloc) == nullptr); });
    BelowTheLostMark([] { TARN_REQUIRE(AllocateSlow(kLarge, Request::kMalloc) == nullptr); });
  });
  EXPECT_EQ(end.signal, SIGABRT);
  EXPECT_EQ(end.output, kAbandoned);
}

TEST(Jump, WithALockHeldEndsWithALineAlsoWhereTheMarkWasForgotten) {
  const ChildEnd end = RunInChild([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
    Start();
    Handle(Jump);
    JumpOutOfSlowPath(nullptr);
    BelowTheMark([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
      for (std::uint32_t i = 0; i < SlowPathScope::kForgetAfter; ++i) AllocateAndFree();
      TARN_REQUIRE(thread_state.slow_path_depth == 0 && thread_state.forgotten_slow_path != nullptr);
      process_heap.page_heap.lock().Acquire();
      TARN_REQUIRE(AllocateSlow(kLarge, Request::kMalloc) == nullptr);
    });
    BelowTheLostMark([] { TARN_REQUIRE(AllocateSlow(kLarge, Request::kMalloc) == nullptr); });
  });
  EXPECT_EQ(end.signal, SIGABRT);
  EXPECT_EQ(end.output, kAbandoned);
}

volatile bool g_jumped;

[[gnu::noinline]] void JumpWithALockOnce() TARN_NO_THREAD_SAFETY_ANALYSIS {
  SlowPathScope scope(SlowPathScope::Opener::kProgram);
  const bool nested = scope.nested();
  TARN_REQUIRE(nested == g_jumped);
  if (nested) return;
  g_jumped = true;
  process_heap.page_heap.lock().Acquire();
  raise(SIGUSR1);
}

// A loop comes back to the very address that it was thrown from, where no handler's slow path can stand.
TEST(Jump, WithALockHeldEndsWithALineAlsoAtTheSamePlace) {
  const ChildEnd end = RunInChild([] {
    Start();
    Handle(Jump);
    g_jumped = false;
    static_cast<void>(sigsetjmp(g_back, 1));
    // After the jump the second call has to end the process.
    JumpWithALockOnce();
  });
  EXPECT_EQ(end.signal, SIGABRT);
  EXPECT_EQ(end.output, kAbandoned);
}

TEST(Jump, ALockOfThisThreadIsNotWaitedFor) {
  const ChildEnd end = RunInChild([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
    Start();
    process_heap.profile.lock().Acquire();
    process_heap.profile.lock().Acquire();
  });
  EXPECT_EQ(end.signal, SIGABRT);
  EXPECT_EQ(end.output, kAbandoned);
}

TEST(Interrupt, AHandlerGoesOnWhereNoLockIsHeld) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start();
              Handle(Allocate);
              {
                SlowPathScope scope(SlowPathScope::Opener::kProgram);
                raise(SIGUSR1);
                TARN_REQUIRE(g_of_handler != nullptr);
                TARN_REQUIRE(g_depth_in_handler == 1);
              }
              TARN_REQUIRE(thread_state.slow_path_depth == 0);
              AllocateAndFree();
            }),
            "");
}

#if defined(TARN_TEST_CAN_STEP)
// A handler at every instruction of a slow path, all in one life of it: each gets its object, or null where the slow
// path holds a lock. Large objects, which use no sequence.
TEST(Interrupt, AHandlerAllocatesAtEachInstruction) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start();
              int refused = 0;
              void* object = nullptr;
              const int steps = tarn_test::SingleStep::Run(
                  [&] {
                    object = AllocateSlow(kLarge, Request::kMalloc);
                    FreeSlow(object, "free");
                  },
                  [&](int) {
                    void* const of_handler = AllocateSlow(kLarge, Request::kMalloc);
                    if (of_handler == nullptr) ++refused;
                    FreeSlow(of_handler, "free");
                    return true;
                  });
              TARN_REQUIRE(object != nullptr);
              TARN_REQUIRE(steps > 100);
              TARN_REQUIRE(refused > 0 && refused < steps);
              TARN_REQUIRE(thread_state.slow_path_depth == 0);
              TARN_REQUIRE(thread_state.forgotten_slow_path == nullptr);
              AllocateAndFree();
            }),
            "");
}
#endif

// Each lock in turn: a handler must not take one that its own thread may hold.
TEST(Interrupt, AHandlerGetsNullWhereALockIsHeld) {
  EXPECT_EQ(ComplaintOfChild([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              Start();
              Handle(Allocate);
              process_heap.EnsureSampledLists();
              Lock* const locks[] = {
                  &process_heap.page_heap.lock(),          &process_heap.profile.lock(),
                  &process_heap.cpu_cache.drain_lock(),    &process_heap.scavenger.cycle_lock(),
                  &process_heap.transfer_caches[5].lock(), &process_heap.transfer_caches[40].central().lock(),
                  &process_heap.sampled_lists[7].lock()};
              for (Lock* lock : locks) {
                g_of_handler = lock;
                SlowPathScope scope(SlowPathScope::Opener::kProgram);
                TARN_REQUIRE(!scope.nested());
                lock->Acquire();
                raise(SIGUSR1);
                lock->Release();
                TARN_REQUIRE(g_of_handler == nullptr);
              }
            }),
            "");
}

TEST(Interrupt, AHandlerChangesNoSettingWhereALockIsHeld) {
  EXPECT_EQ(ComplaintOfChild([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              Start();
              process_heap.SetMemoryLimit({LimitSetting::Kind::kBytes, std::size_t{1} << 40});
              Handle([](int) {
                process_heap.SetHardLimit({LimitSetting::Kind::kBytes, std::size_t{1} << 41});
                TARN_REQUIRE(!process_heap.SetPreset(Preset::kDevelopment));
              });
              {
                SlowPathScope scope(SlowPathScope::Opener::kProgram);
                process_heap.page_heap.lock().Acquire();
                raise(SIGUSR1);
                process_heap.page_heap.lock().Release();
              }
              TARN_REQUIRE(process_heap.limits.hard_bytes() == SIZE_MAX);
              TARN_REQUIRE(process_heap.limits.soft_bytes() == std::size_t{1} << 40);
              TARN_REQUIRE(process_heap.preset() == Preset::kOff);
            }),
            "");
}

void AllocateOften(int) {
  for (std::uint32_t i = 0; i <= 2 * SlowPathScope::kForgetAfter; ++i) AllocateAndFree();
}

// A handler allocates so often that it takes the slow path for gone. That one goes on, takes a lock, and is interrupted
// once more.
TEST(Interrupt, AHandlerGetsNullWhereTheInterruptedOneWasForgotten) {
  EXPECT_EQ(ComplaintOfChild([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              Start();
              for (int i = 0; i < 2; ++i) {
                {
                  SlowPathScope scope(SlowPathScope::Opener::kProgram);
                  TARN_REQUIRE(!scope.nested());
                  Handle(AllocateOften);
                  raise(SIGUSR1);
                  TARN_REQUIRE(thread_state.forgotten_slow_path != nullptr);
                  process_heap.page_heap.lock().Acquire();
                  Handle(Allocate);
                  g_of_handler = &scope;
                  raise(SIGUSR1);
                  TARN_REQUIRE(g_of_handler == nullptr);
                  process_heap.page_heap.lock().Release();
                }
                TARN_REQUIRE(thread_state.slow_path_depth == 0);
                TARN_REQUIRE(thread_state.forgotten_slow_path == nullptr);
                AllocateAndFree();
              }
            }),
            "");
}

// The alternate stack lies in a frame above: its addresses look as if the slow path had been left.
TEST(Interrupt, AHandlerOnAnAlternateStackAboveGetsNullWhereALockIsHeld) {
  EXPECT_EQ(ComplaintOfChild([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              Start();
              constexpr std::size_t kStackBytes = 256 << 10;
              char alternate[kStackBytes];
              stack_t stack = {};
              stack.ss_sp = alternate;
              stack.ss_size = kStackBytes;
              TARN_REQUIRE(sigaltstack(&stack, nullptr) == 0);
              Handle(Allocate, SA_ONSTACK);
              g_of_handler = alternate;
              Deeper([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
                SlowPathScope scope(SlowPathScope::Opener::kProgram);
                process_heap.page_heap.lock().Acquire();
                raise(SIGUSR1);
                process_heap.page_heap.lock().Release();
              });
              TARN_REQUIRE(g_of_handler == nullptr);
              TARN_REQUIRE(thread_state.slow_path_depth == 0);
              AllocateAndFree();
            }),
            "");
}

// A first handler there allocates while no lock is held: its place above proves nothing.
TEST(Interrupt, AHandlerOnAnAlternateStackAboveDropsNoMark) {
  EXPECT_EQ(ComplaintOfChild([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              Start();
              constexpr std::size_t kStackBytes = 256 << 10;
              char alternate[kStackBytes];
              stack_t stack = {};
              stack.ss_sp = alternate;
              stack.ss_size = kStackBytes;
              TARN_REQUIRE(sigaltstack(&stack, nullptr) == 0);
              Handle(Allocate, SA_ONSTACK);
              Deeper([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
                SlowPathScope scope(SlowPathScope::Opener::kProgram);
                raise(SIGUSR1);
                TARN_REQUIRE(g_of_handler != nullptr);
                TARN_REQUIRE(thread_state.slow_path_depth == 1);
                process_heap.page_heap.lock().Acquire();
                raise(SIGUSR1);
                TARN_REQUIRE(g_of_handler == nullptr);
                process_heap.page_heap.lock().Release();
              });
              TARN_REQUIRE(thread_state.slow_path_depth == 0);
              AllocateAndFree();
            }),
            "");
}

TEST(Jump, OutOfAHandlerOnTheAlternateStackWithALockHeldEndsWithALine) {
  const ChildEnd end = RunInChild([] {
    Start();
    // Above all that follows, and untouched by it.
    constexpr std::size_t kStackBytes = 256 << 10;
    char alternate[kStackBytes];
    stack_t stack = {};
    stack.ss_sp = alternate;
    stack.ss_size = kStackBytes;
    TARN_REQUIRE(sigaltstack(&stack, nullptr) == 0);
    Handle(
        [](int) TARN_NO_THREAD_SAFETY_ANALYSIS {
          SlowPathScope scope(SlowPathScope::Opener::kProgram);
          process_heap.page_heap.lock().Acquire();
          siglongjmp(g_back, 1);
        },
        SA_ONSTACK);
    if (sigsetjmp(g_back, 1) == 0) raise(SIGUSR1);
    TARN_REQUIRE(AllocateSlow(kLarge, Request::kMalloc) == nullptr);
  });
  EXPECT_EQ(end.signal, SIGABRT);
  EXPECT_EQ(end.output, kAbandoned);
}

// The other way round: the slow path that is left ran on the alternate stack, in a handler.
TEST(Jump, OutOfAHandlerOnTheAlternateStack) {
  EXPECT_EQ(ComplaintOfChild([] {
              Start();
              constexpr std::size_t kStackBytes = 256 << 10;
              char alternate[kStackBytes];
              stack_t stack = {};
              stack.ss_sp = alternate;
              stack.ss_size = kStackBytes;
              TARN_REQUIRE(sigaltstack(&stack, nullptr) == 0);
              for (int i = 0; i < 3; ++i) {
                Handle(
                    [](int) {
                      SlowPathScope scope(SlowPathScope::Opener::kProgram);
                      siglongjmp(g_back, 1);
                    },
                    SA_ONSTACK);
                if (sigsetjmp(g_back, 1) == 0) raise(SIGUSR1);
                for (std::uint32_t k = 0; k <= SlowPathScope::kForgetAfter; ++k) AllocateAndFree();
                TARN_REQUIRE(thread_state.slow_path_depth == 0);
              }
            }),
            "");
}

// The thread jumped out of the wake of a waiter; the next slow path makes up for it.
TEST(Jump, LeavesNobodyAsleep) {
  EXPECT_EQ(ComplaintOfChild([]() TARN_NO_THREAD_SAFETY_ANALYSIS {
              Start();
              Handle(Jump);
              Lock& lock = process_heap.profile.lock();
              lock.Acquire();
              std::atomic<std::uint32_t> waiter_id = 0;
              std::thread waiter([&]() TARN_NO_THREAD_SAFETY_ANALYSIS {
                waiter_id = KernelThreadId();
                lock.Acquire();
                lock.Release();
              });
              // The lock's word is freed as Release does it, without the wake.
              while (waiter_id == 0 || !tarn_test::ThreadSleeps(waiter_id)) std::this_thread::yield();
              lock.ResetInForkedChild();
              JumpOutOfSlowPath(nullptr);
              AllocateAndFree();
              waiter.join();
            }),
            "");
}

}  // namespace
}  // namespace tarn
