// SPDX-License-Identifier: Apache-2.0
//
// Slabs under everything that disturbs a sequence: drains by other threads, migrations, signals. At the end every
// object is accounted for: none was handed out twice (the stamps would show it), none is lost (the spans go back).

#include <gtest/gtest.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

#include "allocator/cpu_cache/cpu_cache.h"
#include "allocator/cpu_cache/slab_ops.h"
#include "tests/base/patience.h"
#include "tests/cpu_cache/floors.h"
#include "tests/os/cpu_set.h"

namespace tarn {
namespace {

using tarn_test::AttachedThread;
using tarn_test::Churn;
using tarn_test::CpuSet;
using tarn_test::ExpectAtRest;
using tarn_test::ExpectNothingLost;
using tarn_test::Floors;
using tarn_test::StartFloors;
using tarn_test::Tally;

constexpr int kThreads = 16;

void SleepMicroseconds(long microseconds) {
  const struct timespec time = {0, microseconds * 1000};
  nanosleep(&time, nullptr);
}

double Seconds() {
  struct timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

// --- What a signal handler may do: hits, and nothing else ----------------------------------------------------------

// The figures and the objects of the handlers on one thread.
struct HandlerState {
  static constexpr int kPlaces = 64;
  void* objects[kPlaces];
  SizeClass classes[kPlaces];
  int held;
  std::uint64_t pops[kSizeClassCount];
  std::uint64_t pushes[kSizeClassCount];
  std::uint32_t turn;
};
thread_local HandlerState handler_state;
std::atomic<std::uint64_t> handler_runs;

void OnSignal(int) {
  HandlerState& state = handler_state;
  handler_runs.fetch_add(1, std::memory_order_relaxed);
  for (int i = 0; i < 8; ++i) {
    const auto size_class = static_cast<SizeClass>(1 + ++state.turn % 12);
    if (state.held < HandlerState::kPlaces) {
      if (void* object = SlabPop(size_class)) {
        ++state.pops[size_class];
        tarn_test::StampObject(object, size_class, reinterpret_cast<std::uintptr_t>(&state));
        state.objects[state.held] = object;
        state.classes[state.held] = size_class;
        ++state.held;
      }
    }
    if (state.held != 0 && i % 2 == 1) {
      const int last = state.held - 1;
      if (!tarn_test::HasStamp(state.objects[last], state.classes[last], reinterpret_cast<std::uintptr_t>(&state))) {
        abort();
      }
      if (SlabPush(state.classes[last], state.objects[last])) {
        ++state.pushes[state.classes[last]];
        state.held = last;
      }
    }
  }
}

// Frees the objects that the handlers still hold at the thread's end, with signals off.
void SettleHandlers(Floors& floors, Tally* tally) {
  HandlerState& state = handler_state;
  while (state.held != 0) {
    --state.held;
    const SizeClass size_class = state.classes[state.held];
    EXPECT_TRUE(tarn_test::HasStamp(state.objects[state.held], size_class, reinterpret_cast<std::uintptr_t>(&state)));
    floors.Free(size_class, state.objects[state.held]);
    ++state.pushes[size_class];
  }
  for (std::size_t c = 0; c < kSizeClassCount; ++c) {
    tally->allocations[c] += state.pops[c];
    tally->frees[c] += state.pushes[c];
  }
}

struct Disturbance {
  bool drains = false;
  bool migrations = false;
  bool signals = false;
  bool cold_classes = false;
};

constexpr std::uint64_t kEnoughHandlerRuns = 100;

// True while a test that began at `start` (seconds) goes on: for a while in any case, and until enough has happened on
// a busy machine. An event that is missing at the end of the second bound never comes, and the test reports it.
constexpr double kUsualSeconds = 1.2;

bool GoesOn(double start, bool is_enough) {
  constexpr double kLongestSeconds = tarn_test::kPatienceSeconds;
  const double elapsed = Seconds() - start;
  return elapsed < kUsualSeconds || (!is_enough && elapsed < kLongestSeconds);
}

void RunDisturbed(CacheMode mode, Disturbance disturbance) {
  Floors& floors = StartFloors(mode);
  floors.classes_are_cold = disturbance.cold_classes;
  const std::vector<std::size_t> cpus = CpuSet::Of(0).Cpus();
  struct sigaction old_action = {};
  if (disturbance.signals) {
    struct sigaction action = {};
    action.sa_handler = &OnSignal;
    action.sa_flags = SA_RESTART;
    ASSERT_EQ(sigaction(SIGUSR1, &action, &old_action), 0);
    handler_runs.store(0);
  }
  std::atomic<bool> stop = false;
  std::atomic<int> working = 0;
  std::vector<Tally> tallies(kThreads);
  std::vector<pthread_t> handles(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      const auto index = static_cast<std::size_t>(t);
      const AttachedThread attached(floors);
      Churn churn(floors, index + 1);
      handles[index] = pthread_self();
      working.fetch_add(1);
      // A thread that found something wrong stops, and the others go on: they wait for each other at the end.
      for (std::uint64_t step = 0; !stop.load(std::memory_order_relaxed) && !testing::Test::HasFatalFailure(); ++step) {
        churn.Step(200);
        if (disturbance.migrations && step % 256 == 0 && cpus.size() > 1) {
          static_cast<void>(CpuSet::One(cpus[churn.random()() % cpus.size()]).Apply(0));
        }
      }
      sigset_t all;
      sigfillset(&all);
      pthread_sigmask(SIG_BLOCK, &all, nullptr);
      churn.FreeAll();
      Tally tally = churn.tally();
      SettleHandlers(floors, &tally);
      tallies[index] = tally;
      working.fetch_sub(1);
      // The handles stay good until the signals are over.
      while (working.load() != 0) SleepMicroseconds(200);
    });
  }
  while (working.load() != kThreads) SleepMicroseconds(100);
  const double start = Seconds();
  const bool must_drain = disturbance.drains && floors.cpu_cache.can_drain_remotely();
  std::size_t drained_bytes = 0;
  const auto is_enough = [&] {
    return testing::Test::HasFatalFailure() ||
           ((!disturbance.signals || handler_runs.load() > kEnoughHandlerRuns) && (!must_drain || drained_bytes != 0));
  };
  for (std::size_t round = 0; GoesOn(start, is_enough()); ++round) {
    if (disturbance.drains) drained_bytes += floors.cpu_cache.DrainAll("malloc_trim");
    // A class that was drained just now is seldom idle; looks in quick succession make it so.
    for (int look = 0; disturbance.drains && look < 4; ++look) floors.cpu_cache.DrainIdle("scavenger");
    if (disturbance.signals) {
      for (int i = 0; i < 4; ++i) pthread_kill(handles[(round * 4 + static_cast<std::size_t>(i)) % kThreads], SIGUSR1);
    }
    SleepMicroseconds(disturbance.signals ? 20 : 100);
  }
  stop.store(true);
  for (std::thread& thread : threads) thread.join();
  if (disturbance.signals) {
    EXPECT_GT(handler_runs.load(), kEnoughHandlerRuns);
    ASSERT_EQ(sigaction(SIGUSR1, &old_action, nullptr), 0);
  }
  if (must_drain) {
    EXPECT_NE(drained_bytes, 0u);
  }
  Tally sum;
  for (const Tally& tally : tallies) sum += tally;
  ExpectAtRest(floors, sum);
  if (mode == CacheMode::kCpu && !floors.cpu_cache.can_drain_remotely()) return;
  floors.cpu_cache.DrainAll("malloc_trim");
  ExpectNothingLost(floors, sum);
}

class DrainTest : public tarn_test::BothModes {};

TEST_P(DrainTest, WhileThreadsChurn) { RunDisturbed(GetParam(), {.drains = true}); }

TEST_P(DrainTest, WhileThreadsMigrate) { RunDisturbed(GetParam(), {.drains = true, .migrations = true}); }

TEST_P(DrainTest, MigrationsAlone) { RunDisturbed(GetParam(), {.migrations = true}); }

// Drains make all classes cold: what threads pass to and fro goes to the spans and to the caches in turn.
TEST_P(DrainTest, OfClassesThatWarmUpAndCool) { RunDisturbed(GetParam(), {.drains = true, .cold_classes = true}); }

TEST_P(DrainTest, ReturnsTheBytesAndLearnsAnew) {
  Floors& floors = StartFloors(GetParam());
  std::thread([&] {
    const AttachedThread attached(floors);
    Tally tally;
    for (int round = 0; round < 3; ++round) {
      std::vector<void*> objects;
      for (int i = 0; i < 100; ++i) objects.push_back(floors.Allocate(9));
      for (void* object : objects) floors.Free(9, object);
      tally.allocations[9] += 100;
      tally.frees[9] += 100;
      const std::size_t live_objects = floors.transfer_caches[9].central().Stats().live_objects;
      EXPECT_GE(live_objects, 1u);
      if (GetParam() == CacheMode::kThread || floors.cpu_cache.can_drain_remotely()) {
        EXPECT_EQ(floors.cpu_cache.DrainAll("malloc_trim"), live_objects * kSizeClasses[9].size_bytes);
        for (const Slab* slab : floors.Slabs()) {
          EXPECT_EQ(slab->headers[9].end, slab->headers[9].begin);
          EXPECT_EQ(slab->policy.spare_bytes.load(), static_cast<std::int64_t>(floors.cpu_cache.budget_bytes()));
        }
        ExpectNothingLost(floors, tally);
        EXPECT_EQ(floors.cpu_cache.DrainAll("malloc_trim"), 0u);
      }
    }
  }).join();
}

// Looks until a cache that nobody uses is idle for certain; returns what was drained.
std::size_t LookUntilIdle(Floors& floors) {
  std::size_t drained_bytes = 0;
  for (int look = 0; look <= CpuCache::kIdleLooks; ++look) {
    drained_bytes += floors.cpu_cache.DrainIdle("scavenger").drained_bytes;
  }
  return drained_bytes;
}

TEST_P(DrainTest, OfIdleClassesLeavesThoseInUse) {
  Floors& floors = StartFloors(GetParam());
  const bool remote = floors.cpu_cache.can_drain_remotely();
  std::thread([&] {
    const AttachedThread attached(floors);
    Tally tally;
    const auto use = [&](SizeClass size_class, int objects) {
      std::vector<void*> taken;
      for (int i = 0; i < objects; ++i) taken.push_back(floors.Allocate(size_class));
      for (void* object : taken) floors.Free(size_class, object);
      tally.allocations[size_class] += taken.size();
      tally.frees[size_class] += taken.size();
    };
    use(9, 500);
    use(12, 500);
    const CpuCache::IdleDrain first = floors.cpu_cache.DrainIdle("scavenger");
    EXPECT_EQ(first.drained_bytes, 0u);
    EXPECT_NE(first.pending_bytes, 0u);
    std::size_t drained_bytes = 0;
    for (int look = 0; look < 2 * CpuCache::kIdleLooks; ++look) {
      // Pops and pushes that a hit serves, so nothing but the word of the slab shows them.
      use(12, 1);
      drained_bytes += floors.cpu_cache.DrainIdle("scavenger").drained_bytes;
    }
    ExpectAtRest(floors, tally);
    EXPECT_NE(drained_bytes, 0u);
    EXPECT_EQ(floors.transfer_caches[9].drainable_bytes(), 0u);
    if (!remote) {
      // Only its owner may empty a slab.
      EXPECT_NE(floors.cpu_cache.ClassStats(9).cached_objects, 0u);
      return;
    }
    EXPECT_EQ(floors.cpu_cache.ClassStats(9).cached_objects, 0u);
    EXPECT_NE(floors.cpu_cache.ClassStats(12).cached_objects, 0u);
    EXPECT_NE(LookUntilIdle(floors), 0u);
    ExpectNothingLost(floors, tally);
    EXPECT_EQ(floors.cpu_cache.DrainIdle("scavenger").pending_bytes, 0u);
  }).join();
}

TARN_IN_BOTH_MODES(DrainTest);

// A drain may look at a slab only when no sequence is under way on it. Sequences are so short that a drain hardly ever
// meets one; so here a batch is popped into memory that the kernel has to provide first. That takes up to a fraction of
// a millisecond (a huge page to clear) in the middle of the sequence, and is nothing that restarts it.
class RemoteDrainTest : public tarn_test::BothModes {};

TEST_P(RemoteDrainTest, RestartsTheSequencesThatAreUnderWay) {
  Floors& floors = StartFloors(GetParam());
  if (!floors.cpu_cache.can_drain_remotely()) GTEST_SKIP() << "no membarrier here";
  constexpr SizeClass kClass = 2;
  constexpr std::size_t kRegionBytes = kHugePageBytes;
  std::atomic<bool> stop = false;
  std::atomic<std::uint64_t> long_sequences = 0;
  Tally tally;
  long pause_us = 0;
  std::thread victim([&] {
    const AttachedThread attached(floors);
    void* const reserved = mmap(nullptr, 2 * kRegionBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ASSERT_NE(reserved, MAP_FAILED);
    const auto start = RoundUp(reinterpret_cast<std::uintptr_t>(reserved), kRegionBytes);
    void** const region = reinterpret_cast<void**>(start);
    madvise(region, kRegionBytes, MADV_HUGEPAGE);
    while (!stop.load(std::memory_order_relaxed)) {
      // After a drain the class has no capacity; a few of these and it has.
      void* objects[2 * kMaxBatchObjects];
      for (void*& object : objects) {
        object = floors.Allocate(kClass);
        ASSERT_NE(object, nullptr);
      }
      for (void* object : objects) floors.Free(kClass, object);
      tally.allocations[kClass] += std::size(objects);
      tally.frees[kClass] += std::size(objects);
      madvise(region, kRegionBytes, MADV_DONTNEED);
      const std::size_t popped = SlabPopBatch(kClass, region, kMaxBatchObjects);
      for (std::size_t i = 0; i < popped; ++i) floors.Free(kClass, region[i]);
      tally.allocations[kClass] += popped;
      tally.frees[kClass] += popped;
      if (popped != 0) long_sequences.fetch_add(1, std::memory_order_relaxed);
    }
    munmap(reserved, 2 * kRegionBytes);
  });
  const double begin = Seconds();
  while (GoesOn(begin, long_sequences.load() != 0 || HasFatalFailure())) {
    floors.cpu_cache.DrainAll("malloc_trim");
    // An emulated processor may need longer for the page than a drain takes, and would never come to the end.
    if (Seconds() - begin < kUsualSeconds) continue;
    SleepMicroseconds(pause_us);
    if (pause_us < 1'000'000) pause_us += 1 + pause_us / 4;
  }
  stop.store(true);
  victim.join();
  EXPECT_GT(long_sequences.load(), 0u);
  ExpectAtRest(floors, tally);
  floors.cpu_cache.DrainAll("malloc_trim");
  ExpectNothingLost(floors, tally);
}

TARN_IN_BOTH_MODES(RemoteDrainTest);

class SignalTest : public tarn_test::BothModes {
 protected:
  void SetUp() override {
    BothModes::SetUp();
    // In the thread mode it takes an area that the kernel knows to restart what a signal interrupts (slab_ops.h).
    const RseqSupport& rseq = tarn_test::ProcessRseq();
    if (GetParam() == CacheMode::kThread && (rseq.index == RseqIndex::kNone || rseq.register_threads)) {
      GTEST_SKIP() << "allocating in a signal handler is not safe here";
    }
  }
};

TEST_P(SignalTest, InTheMiddleOfSequences) { RunDisturbed(GetParam(), {.signals = true}); }

TEST_P(SignalTest, WithDrainsAndMigrations) {
  RunDisturbed(GetParam(), {.drains = true, .migrations = true, .signals = true});
}

TARN_IN_BOTH_MODES(SignalTest);

}  // namespace
}  // namespace tarn
