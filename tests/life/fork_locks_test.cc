// SPDX-License-Identifier: Apache-2.0
//
// The handlers of fork, step by step. Each lock that a fork has to wait for is held by another thread until the fork
// waits. Each thing that the child repairs is left in disorder by a thread that is stopped in the middle.
//
// Every body runs in a child, for a process registers the handlers once. Nothing here waits for a time to pass.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/entry/allocate.h"
#include "allocator/entry/free.h"
#include "allocator/entry/resize.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/reclaim.h"
#include "allocator/life/fork_locks.h"
#include "allocator/os/cpus.h"
#include "allocator/os/fork_mark.h"
#include "allocator/os/process.h"
#include "allocator/pages/page_map.h"
#include "tests/base/patience.h"
#include "tests/os/in_child.h"
#include "tests/os/stalled_call.h"

namespace tarn {
namespace {

using tarn_test::ComplaintOfChild;

// A body forks some two hundred times, which takes a minute where the processors are emulated and busy.
constexpr unsigned kHangSeconds = 2 * tarn_test::kPatienceSeconds;

struct NamedLock {
  std::string name;
  Lock* lock;
  // Its data may be half changed when it is held.
  bool guards_heap = false;
};

// All that a fork acquires.
std::vector<NamedLock> LocksOfAFork() {
  static ForkLock pool_lock;
  AddForkLock(&pool_lock);
  std::vector<NamedLock> locks = {{"registration", &ForkRegistrationLock()},
                                  {"cycle", &process_heap.scavenger.cycle_lock()},
                                  {"page heap", &process_heap.page_heap.lock(), true},
                                  {"profile", &process_heap.profile.lock()},
                                  {"list of pools", &ForkLockListLock()},
                                  {"pool", &pool_lock.lock}};
  for (int c = 1; c < kSizeClassCount; ++c) {
    const std::string number = std::to_string(c);
    locks.push_back({"transfer cache " + number, &process_heap.transfer_caches[c].lock()});
    locks.push_back({"central list " + number, &process_heap.transfer_caches[c].central().lock(), true});
    locks.push_back({"sampled list " + number, &process_heap.sampled_lists[c].lock(), true});
  }
  return locks;
}

// Holds a lock until another thread waits for it, or until it is told to let go.
class LockThief {
 public:
  explicit LockThief(Lock* lock) : lock_(lock), thread_([this] { Hold(); }) {
    while (!held_.load()) sched_yield();
  }
  // True if another thread had to wait.
  bool LetGo() {
    let_go_.store(true);
    thread_.join();
    return waited_;
  }

 private:
  void Hold() TARN_NO_THREAD_SAFETY_ANALYSIS {
    lock_->Acquire();
    held_.store(true);
    while (!lock_->HasWaiters() && !let_go_.load()) sched_yield();
    waited_ = lock_->HasWaiters();
    lock_->Release();
  }

  Lock* const lock_;
  std::atomic<bool> held_ = false;
  std::atomic<bool> let_go_ = false;
  bool waited_ = false;
  std::thread thread_;
};

// A second thread, without which a fork has nothing to do. It stays to the end of the process.
void StartCompany() {
  std::atomic<bool> started = false;
  std::thread([&started] {
    started.store(true);
    while (true) pause();
  }).detach();
  while (!started.load()) sched_yield();
}

void StartHeap(const char* mode) {
  // A fork that waits for ever does so with all signals blocked, the alarm too; it ends with the test's process.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  for (const char* name : {"TARN_MODE", "TARN_VERBOSE", "TARN_STATS", "TARN_PROFILE_RATE"}) unsetenv(name);
  if (mode != nullptr) setenv("TARN_MODE", mode, 1);
  // The scavenger's thread is not wanted here: the tests hold its locks.
  setenv("TARN_BACKGROUND", "off", 1);
  process_heap.EnsureStarted();
  process_heap.EnsureSampledLists();
  StartCompany();
}

void RequireGoodChild(pid_t child, const std::string& name) {
  TARN_REQUIRE(child > 0);
  int status = 0;
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (status != 0) dprintf(2, "%s: status %x\n", name.c_str(), status);
  TARN_REQUIRE(status == 0);
}

// Uses the heap of a child in all ways, each by slow paths.
void UseEveryFloor() {
  for (int round = 0; round < 2; ++round) {
    for (int c = 1; c < kSizeClassCount; ++c) {
      void* objects[3];
      for (void*& object : objects) {
        object = process_heap.cpu_cache.AllocateSlow(static_cast<SizeClass>(c));
        TARN_REQUIRE(object != nullptr);
        memset(object, 0x5A, kSizeClasses[c].size_bytes);
      }
      for (void* object : objects) FreeSlow(object, "free");
    }
    void* large = AllocateSlow(3 << 20, Request::kMalloc);
    TARN_REQUIRE(large != nullptr);
    memset(large, 1, 3 << 20);
    FreeSlow(large, "free");
    static_cast<void>(Trim(0));
  }
  process_heap.page_heap.CheckInvariants();
  for (int c = 1; c < kSizeClassCount; ++c) process_heap.transfer_caches[c].central().CheckInvariants();
}

class ForkLocks : public testing::TestWithParam<const char*> {};

TEST_P(ForkLocks, AForkWaitsForEachAndTheChildFindsItFree) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(GetParam());
              RegisterForkHandlers();
              const std::vector<NamedLock> locks = LocksOfAFork();
              for (const NamedLock& held : locks) {
                LockThief thief(held.lock);
                const pid_t child = fork();
                if (child == 0) {
                  alarm(kHangSeconds);
                  for (const NamedLock& each : locks) {
                    if (each.lock->IsHeld()) dprintf(2, "%s is held in the child\n", each.name.c_str());
                    TARN_REQUIRE(!each.lock->IsHeld());
                  }
                  TARN_REQUIRE(!fork_mark.IsWiped());
                  void* object = AllocateSlow(400000, Request::kMalloc);
                  TARN_REQUIRE(object != nullptr);
                  FreeSlow(object, "free");
                  _exit(0);
                }
                const bool waited = thief.LetGo();
                if (!waited) dprintf(2, "the fork did not wait for: %s\n", held.name.c_str());
                TARN_REQUIRE(waited);
                RequireGoodChild(child, held.name);
                for (const NamedLock& each : locks) TARN_REQUIRE(!each.lock->HeldByThisThread());
              }
              UseEveryFloor();
            }),
            "");
}

// libc allocates while it registers handlers, under a lock that the fork takes after ours.
TEST_P(ForkLocks, AForkThatWaitsForARegistrationHoldsNoOtherLock) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(GetParam());
              RegisterForkHandlers();
              // Made before, for that takes locks of a fork.
              const std::vector<NamedLock> locks = LocksOfAFork();
              std::thread registers([&locks] {
                LockHolder holder(ForkRegistrationLock());
                while (!ForkRegistrationLock().HasWaiters()) sched_yield();
                for (const NamedLock& each : locks) {
                  // Nothing else is safe to call while the fork holds locks of libc.
                  if (each.lock != &ForkRegistrationLock() && each.lock->IsHeld()) _exit(3);
                }
                UseEveryFloor();
              });
              // The thread begins to hold the lock before or after; wait until it does.
              while (!ForkRegistrationLock().IsHeld()) sched_yield();
              const pid_t child = fork();
              if (child == 0) _exit(0);
              registers.join();
              RequireGoodChild(child, "registration");
            }),
            "");
}

// --- Signals -------------------------------------------------------------------------------------------------------

std::atomic<int> blocked_in_handlers = 0;

bool AllSignalsAreBlocked() {
  sigset_t blocked;
  pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  for (const int number : {SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCHLD, SIGPROF, SIGRTMIN, SIGRTMAX}) {
    if (sigismember(&blocked, number) == 0) return false;
  }
  return true;
}

void CountIfBlocked() { blocked_in_handlers.fetch_add(AllSignalsAreBlocked() ? 1 : 100); }

// Handlers that are registered before tarn's run while tarn's locks are held, in the child, too.
TEST_P(ForkLocks, AllSignalsAreBlockedWhileLocksAreHeld) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(GetParam());
              TARN_REQUIRE(pthread_atfork(&CountIfBlocked, &CountIfBlocked, &CountIfBlocked) == 0);
              RegisterForkHandlers();
              sigset_t before;
              sigset_t after;
              sigemptyset(&before);
              sigaddset(&before, SIGUSR2);
              TARN_REQUIRE(pthread_sigmask(SIG_SETMASK, &before, nullptr) == 0);
              const pid_t child = fork();
              pthread_sigmask(SIG_SETMASK, nullptr, &after);
              for (const int number : {SIGUSR1, SIGALRM, SIGTERM, SIGRTMIN}) {
                TARN_REQUIRE(sigismember(&after, number) == 0);
              }
              TARN_REQUIRE(sigismember(&after, SIGUSR2) == 1);
              TARN_REQUIRE(blocked_in_handlers.load() == 2);
              if (child == 0) _exit(0);
              RequireGoodChild(child, "signals");
            }),
            "");
}

// --- What the child repairs ----------------------------------------------------------------------------------------

// A signal handler interrupts a cycle of its own thread, the only one of a process that was forked by one with threads,
// and forks. The cycle goes on in the child, and still holds its lock.
TEST(ForkRepairs, NothingOfACycleThatGoesOn) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(nullptr);
              RegisterForkHandlers();
              std::atomic<bool> forked = false;
              std::thread other([&forked] {
                while (!forked.load()) sched_yield();
              });
              const pid_t child = fork();
              if (child == 0) {
                alarm(kHangSeconds);
                // Some versions of libc know it themselves.
                __libc_single_threaded = 1;
                Lock& cycle_lock = process_heap.scavenger.cycle_lock();
                {
                  SlowPathScope slow_path;
                  LockHolder cycle(cycle_lock);
                  const pid_t grandchild = fork();
                  if (grandchild == 0) alarm(kHangSeconds);
                  TARN_REQUIRE(cycle_lock.HeldByThisThread());
                  if (grandchild != 0) RequireGoodChild(grandchild, "cycle");
                }
                TARN_REQUIRE(!cycle_lock.IsHeld());
                UseEveryFloor();
                _exit(0);
              }
              forked.store(true);
              other.join();
              RequireGoodChild(child, "child with a cycle");
            }),
            "");
}

TEST(ForkRepairs, SlabsThatADrainOfAnotherThreadHasTakenOut) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(nullptr);
              if (process_heap.cpu_cache.mode() != CacheMode::kCpu) return;
              RegisterForkHandlers();
              UseEveryFloor();
              std::atomic<bool> taken_out = false;
              std::atomic<bool> forked = false;
              std::vector<Slab*> slabs(CpuIdBound());
              std::thread drains([&]() {
                LockHolder holder(process_heap.cpu_cache.drain_lock());
                for (std::size_t i = 0; i < slabs.size(); ++i) slabs[i] = slab_table.slabs[i].exchange(EmptySlab());
                taken_out.store(true);
                while (!forked.load()) sched_yield();
                for (std::size_t i = 0; i < slabs.size(); ++i) slab_table.slabs[i].store(slabs[i]);
              });
              while (!taken_out.load()) sched_yield();
              // Does not wait for the drain.
              const pid_t child = fork();
              if (child == 0) {
                alarm(kHangSeconds);
                TARN_REQUIRE(!process_heap.cpu_cache.drain_lock().IsHeld());
                std::size_t populated = 0;
                for (std::size_t i = 0; i < slabs.size(); ++i) {
                  TARN_REQUIRE(slab_table.slabs[i].load() == slabs[i]);
                  populated += IsEmptySlab(slabs[i]) ? 0 : 1;
                }
                TARN_REQUIRE(populated != 0);
                UseEveryFloor();
                _exit(0);
              }
              forked.store(true);
              drains.join();
              RequireGoodChild(child, "drain");
            }),
            "");
}

TEST(ForkRepairs, SlabsOfThreadsThatAreNoMore) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap("thread");
              RegisterForkHandlers();
              std::atomic<bool> cached = false;
              std::atomic<bool> forked = false;
              constexpr SizeClass kClass = 5;
              std::thread other([&] {
                void* objects[50];
                for (int round = 0; round < 4; ++round) {
                  for (void*& object : objects)
                    object = AllocateSlow(kSizeClasses[kClass].size_bytes, Request::kMalloc);
                  for (void* object : objects) FreeSlow(object, "free");
                }
                cached.store(true);
                while (!forked.load()) sched_yield();
              });
              while (!cached.load()) sched_yield();
              TARN_REQUIRE(process_heap.cpu_cache.ClassStats(kClass).cached_objects != 0);
              const pid_t child = fork();
              if (child == 0) {
                alarm(kHangSeconds);
                TARN_REQUIRE(process_heap.cpu_cache.ClassStats(kClass).cached_objects == 0);
                UseEveryFloor();
                _exit(0);
              }
              forked.store(true);
              other.join();
              RequireGoodChild(child, "slabs of threads");
            }),
            "");
}

std::size_t FreeBytes() {
  const PageHeapStats stats = process_heap.page_heap.Stats();
  return stats.free_warm_bytes + stats.free_zero_bytes;
}

TEST(ForkRepairs, PagesThatAnotherThreadIsReleasing) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(nullptr);
              RegisterForkHandlers();
              // Pages in the midst of others that are in use, which are taken out one by one.
              std::vector<void*> objects;
              for (int i = 0; i < 40; ++i) {
                objects.push_back(AllocateSlow(300000, Request::kMalloc));
                memset(objects.back(), 1, 300000);
              }
              for (std::size_t i = 0; i < objects.size(); i += 2) FreeSlow(objects[i], "free");
              const std::size_t free_bytes = FreeBytes();
              tarn_test::StalledCalls calls;
              std::thread releases([&] {
                calls.Stall({SYS_madvise, SYS_process_madvise});
                static_cast<void>(process_heap.page_heap.ReleaseFree(0, true));
                calls.End();
              });
              int looks = 0;
              while (calls.Await()) {
                // The pages of the call are nobody's just now.
                if (FreeBytes() < free_bytes) {
                  ++looks;
                  const pid_t child = fork();
                  if (child == 0) {
                    alarm(kHangSeconds);
                    TARN_REQUIRE(FreeBytes() == free_bytes);
                    process_heap.page_heap.CheckInvariants();
                    UseEveryFloor();
                    _exit(0);
                  }
                  RequireGoodChild(child, "release");
                }
                calls.LetGo();
              }
              releases.join();
              TARN_REQUIRE(looks != 0 || calls.refused());
              process_heap.page_heap.CheckInvariants();
            }),
            "");
}

// --- Forks that run no handlers ------------------------------------------------------------------------------------

pid_t BareFork() { return static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr)); }

// Objects of every kind, with contents, that a child inherits.
struct Inherited {
  void* small = AllocateSlow(100, Request::kMalloc);
  void* middle = AllocateSlow(20000, Request::kMalloc);
  void* large = AllocateSlow(700000, Request::kMalloc);
  void* larger = AllocateSlow(6 << 20, Request::kMalloc);

  void Fill() const {
    memset(small, 1, 100);
    memset(middle, 2, 20000);
    memset(large, 3, 700000);
    for (std::size_t i = 0; i < (6 << 20); i += 50) static_cast<char*>(larger)[i] = 4;
  }
  static void RequireBytes(const void* object, char value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; i += 50) TARN_REQUIRE(static_cast<const char*>(object)[i] == value);
  }
  void Free() const {
    for (void* object : {small, middle, large, larger}) FreeSlow(object, "free");
  }
  void UseUp() {
    RequireBytes(small, 1, 100);
    small = Reallocate(small, 5000);
    RequireBytes(small, 1, 100);
    FreeSlow(small, "free");
    RequireBytes(middle, 2, 20000);
    FreeSlow(middle, "free");
    large = Reallocate(large, 2 << 20);
    TARN_REQUIRE(large != nullptr);
    RequireBytes(large, 3, 700000);
    FreeSlow(large, "free");
    larger = Reallocate(larger, 14 << 20);
    TARN_REQUIRE(larger != nullptr);
    RequireBytes(larger, 4, 6 << 20);
    FreeSlow(larger, "free");
  }
};

// A lock that a bare fork finds held, under an id that is not the child's. That takes no other thread, nor a wait for
// one.
pid_t BareForkUnder(Lock* held) TARN_NO_THREAD_SAFETY_ANALYSIS {
  held->Acquire();
  const pid_t child = BareFork();
  if (child != 0) held->Release();
  return child;
}

void RequireThatAllAreFree(const std::vector<NamedLock>& locks) {
  TARN_REQUIRE(!fork_mark.IsWiped());
  for (const NamedLock& each : locks) TARN_REQUIRE(!each.lock->IsHeld());
}

class UnseenFork : public testing::TestWithParam<const char*> {};

TEST_P(UnseenFork, TheChildGoesOnWhicheverLockAnotherThreadHolds) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(GetParam());
              RegisterForkHandlers();
              std::vector<NamedLock> locks = LocksOfAFork();
              locks.push_back({"drain", &process_heap.cpu_cache.drain_lock()});
              UseEveryFloor();
              TARN_REQUIRE(fork_mark.laid());
              std::size_t number = 0;
              for (const NamedLock& held : locks) {
                // All there is for those that are not one of a row, and for some of the rows.
                const bool thorough = held.name.find_first_of("123456789") == std::string::npos || number % 23 == 0;
                const bool bare = ++number % 2 == 0;
                if (!thorough) {
                  const pid_t child = BareForkUnder(held.lock);
                  if (child == 0) {
                    alarm(kHangSeconds);
                    if (!fork_mark.IsWiped()) _exit(0);
                    FreeSlow(AllocateSlow(300000, Request::kMalloc), "free");
                    RequireThatAllAreFree(locks);
                    _exit(0);
                  }
                  RequireGoodChild(child, held.name);
                  continue;
                }
                Inherited inherited;
                inherited.Fill();
                LockThief thief(held.lock);
                const pid_t child = bare ? BareFork() : _Fork();
                if (child == 0) {
                  alarm(kHangSeconds);
                  // A kernel before 4.14.
                  if (!fork_mark.IsWiped()) _exit(0);
                  inherited.UseUp();
                  FreeSlow(AllocateSlow(300000, Request::kMalloc), "free");
                  RequireThatAllAreFree(locks);
                  UseEveryFloor();
                  // Its own children are as safe.
                  const pid_t grandchild = _Fork();
                  if (grandchild == 0) {
                    UseEveryFloor();
                    _exit(0);
                  }
                  RequireGoodChild(grandchild, "grandchild");
                  _exit(0);
                }
                thief.LetGo();
                RequireGoodChild(child, held.name);
                inherited.Free();
              }
              UseEveryFloor();
            }),
            "");
}

// Under a lock of the heap the data may be half changed, so the child leaves it alone; under the others it is whole.
TEST_P(UnseenFork, TheChildBeginsAnewOnlyWhereAnotherThreadWasChangingTheHeap) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(GetParam());
              UseEveryFloor();
              void* object = AllocateSlow(300000, Request::kMalloc);
              Span* span = page_map.SpanOf(PageId::Containing(object));
              const auto lists_have_spans = [](bool some) {
                for (int c = 1; c < kSizeClassCount; ++c) {
                  TARN_REQUIRE((process_heap.transfer_caches[c].central().Stats().spans != 0) == some);
                  TARN_REQUIRE((process_heap.sampled_lists[c].Stats().spans != 0) == some);
                }
              };
              for (int c = 1; c < kSizeClassCount; ++c) {
                void* one;
                TARN_REQUIRE(process_heap.transfer_caches[c].central().RemoveRange(&one, 1) == 1);
                TARN_REQUIRE(process_heap.sampled_lists[c].RemoveRange(&one, 1) == 1);
              }
              lists_have_spans(true);
              for (const NamedLock& held : LocksOfAFork()) {
                const pid_t child = BareForkUnder(held.lock);
                if (child == 0) {
                  alarm(kHangSeconds);
                  if (!fork_mark.IsWiped()) _exit(0);
                  void* own = AllocateSlow(300000, Request::kMalloc);
                  TARN_REQUIRE(process_heap.page_heap.IsAbandoned(span) == held.guards_heap);
                  TARN_REQUIRE(!process_heap.page_heap.IsAbandoned(page_map.SpanOf(PageId::Containing(own))));
                  lists_have_spans(!held.guards_heap);
                  FreeSlow(object, "free");
                  FreeSlow(own, "free");
                  _exit(0);
                }
                RequireGoodChild(child, held.name);
              }
            }),
            "");
}

thread_local bool stops_in_fork = false;
std::atomic<bool> stopped_in_fork = false;
std::atomic<bool> fork_goes_on = false;

// Registered before tarn's handlers, so it runs when these hold all locks.
void StopInFork() {
  if (!stops_in_fork) return;
  stopped_in_fork.store(true);
  while (!fork_goes_on.load()) sched_yield();
}

// The other thread is in the middle of a fork, with all locks, and one of them was its own: its fork came from a signal
// handler that interrupted a change. Without one of its own nothing is half changed.
TEST_P(UnseenFork, TheChildBeginsAnewWhereAForkOfAnotherThreadInterruptedAChange) {
  for (const bool in_a_change : {true, false}) {
    EXPECT_EQ(ComplaintOfChild([in_a_change] {
                alarm(kHangSeconds);
                TARN_REQUIRE(pthread_atfork(&StopInFork, nullptr, nullptr) == 0);
                StartHeap(GetParam());
                RegisterForkHandlers();
                UseEveryFloor();
                void* object = AllocateSlow(300000, Request::kMalloc);
                Span* span = page_map.SpanOf(PageId::Containing(object));
                std::thread other([in_a_change]() TARN_NO_THREAD_SAFETY_ANALYSIS {
                  SlowPathScope scope(SlowPathScope::Opener::kProgram);
                  Lock& lock = process_heap.page_heap.lock();
                  if (in_a_change) lock.Acquire();
                  stops_in_fork = true;
                  const pid_t child = fork();
                  if (child == 0) _exit(0);
                  if (in_a_change) lock.Release();
                  RequireGoodChild(child, "fork");
                });
                while (!stopped_in_fork.load()) sched_yield();
                const pid_t child = BareFork();
                if (child == 0) {
                  alarm(kHangSeconds);
                  if (!fork_mark.IsWiped()) _exit(0);
                  TARN_REQUIRE(AllocateSlow(300000, Request::kMalloc) != nullptr);
                  TARN_REQUIRE(process_heap.page_heap.IsAbandoned(span) == in_a_change);
                  _exit(0);
                }
                RequireGoodChild(child, "bare fork");
                fork_goes_on.store(true);
                other.join();
                FreeSlow(object, "free");
              }),
              "");
  }
}

TEST_P(UnseenFork, TheChildPutsBackWhatADrainHasTakenOut) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(GetParam());
              if (process_heap.cpu_cache.mode() != CacheMode::kCpu) return;
              UseEveryFloor();
              std::vector<Slab*> slabs(CpuIdBound());
              for (std::size_t i = 0; i < slabs.size(); ++i) slabs[i] = slab_table.slabs[i].exchange(EmptySlab());
              const pid_t child = BareFork();
              if (child == 0) {
                alarm(kHangSeconds);
                if (!fork_mark.IsWiped()) _exit(0);
                FreeSlow(AllocateSlow(300000, Request::kMalloc), "free");
                for (std::size_t i = 0; i < slabs.size(); ++i) TARN_REQUIRE(slab_table.slabs[i].load() == slabs[i]);
                _exit(0);
              }
              RequireGoodChild(child, "drain");
            }),
            "");
}

// A child that shares its parent's memory has no heap of its own: there is nothing to repair, and much to break.
TEST_P(UnseenFork, AChildOfVforkRepairsNothing) {
  EXPECT_EQ(ComplaintOfChild([] {
              alarm(kHangSeconds);
              StartHeap(GetParam());
              UseEveryFloor();
              TARN_REQUIRE(fork_mark.laid());
              const pid_t child = vfork();
              if (child == 0) _exit(fork_mark.IsWiped() ? 1 : 0);
              RequireGoodChild(child, "vfork");
            }),
            "");
}

INSTANTIATE_TEST_SUITE_P(Cpu, ForkLocks, testing::Values(nullptr));
INSTANTIATE_TEST_SUITE_P(Thread, ForkLocks, testing::Values("thread"));
INSTANTIATE_TEST_SUITE_P(Cpu, UnseenFork, testing::Values(nullptr));
INSTANTIATE_TEST_SUITE_P(Thread, UnseenFork, testing::Values("thread"));

}  // namespace
}  // namespace tarn
