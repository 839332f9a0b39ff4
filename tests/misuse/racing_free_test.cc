// SPDX-License-Identifier: Apache-2.0
//
// Threads that end one object at the same time: exactly one call goes on, each other one gets the misuse line.
//
// A loser aborts. The handler of SIGABRT keeps it there, so one process can race many times: each round starts its
// threads, lets them go at once, and waits until each of them has either returned or lost.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <sstream>
#include <string>

#include "tests/entry/on_tarn.h"
#include "tests/entry/surface.h"
#include "tests/os/in_child.h"

namespace tarn_test {
namespace {

std::atomic<int> g_lost;
std::atomic<int> g_returned;

void StayInAbort(int) {
  ++g_lost;
  while (true) pause();
}

struct Race {
  const char* name;
  size_t bytes;
  // All threads run it; `number` tells them apart.
  void (*end)(void* object, size_t bytes, int number);
  // A realloc may leave the object where it is, and a call that comes after it is valid then.
  bool one_goes_on;
};

void Free(void* object, size_t, int) { free(object); }
// Grows, shrinks, and moves into a small class.
void Resize(void* object, size_t bytes, int number) {
  const size_t sizes[] = {bytes * 2, bytes + 100000, bytes / 3, 100};
  void* resized = Opaque(realloc(object, sizes[number % 4]));
  // Where it moved, nobody else knows of it.
  if (resized != object) free(resized);
}
void FreeOrResize(void* object, size_t bytes, int number) {
  number % 2 == 0 ? Free(object, bytes, number) : Resize(object, bytes, number / 2);
}

const Race kRaces[] = {
    {"LargeFree", 600 * kKiB, Free, true},
    {"LargeResize", 600 * kKiB, Resize, false},
    {"LargeFreeOrResize", 600 * kKiB, FreeOrResize, false},
    {"MovableFreeOrResize", 6 * kMiB, FreeOrResize, false},
    {"MappedFree", 600 * kMiB, Free, true},
    {"MappedFreeOrResize", 600 * kMiB, FreeOrResize, false},
};

constexpr int kThreads = 3;
constexpr int kPatientLooks = 50000;

struct Round {
  std::atomic<int> ready = 0;
  std::atomic<bool> go = false;
  void* object = nullptr;
  const Race* race = nullptr;
};

struct Racer {
  Round* round;
  int number;
};

void* RunRacer(void* argument) {
  const Racer racer = *static_cast<Racer*>(argument);
  Round* const round = racer.round;
  const Race* const race = round->race;
  void* const object = round->object;
  // A thread's first slow path allocates (the record of its exit). In the race it could get the memory that the winner
  // has just freed; a late loser's free would then be a valid one of that record.
  free(Opaque(malloc(1)));
  ++round->ready;
  // On the CPU when it begins, if the others get there soon.
  for (int i = 0; !round->go.load(); ++i) {
    if (i > kPatientLooks) sched_yield();
  }
  race->end(object, race->bytes, racer.number);
  ++g_returned;
  return nullptr;
}

// Runs in a child. The process's stderr is a file that the parent reads.
void RunRounds(const Race& race, int rounds) {
  struct sigaction action = {};
  action.sa_handler = &StayInAbort;
  TARN_REQUIRE(sigaction(SIGABRT, &action, nullptr) == 0);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, 64 * kKiB);
  // Fewer rounds where a busy machine takes long for them; the child ends itself when its patience is over.
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(tarn_test::kPatienceSeconds / 4);
  for (int i = 0; i < rounds && std::chrono::steady_clock::now() < end; ++i) {
    g_lost = 0;
    g_returned = 0;
    Round round;
    round.race = &race;
    round.object = Opaque(malloc(race.bytes));
    TARN_REQUIRE(round.object != nullptr);
    Racer racers[kThreads];
    for (int t = 0; t < kThreads; ++t) {
      racers[t] = {&round, t + i};
      pthread_t thread;
      TARN_REQUIRE(pthread_create(&thread, &attributes, &RunRacer, &racers[t]) == 0);
    }
    while (round.ready.load() != kThreads) sched_yield();
    round.go = true;
    while (g_lost + g_returned != kThreads) sched_yield();
    if (race.one_goes_on ? g_returned != 1 : g_returned == 0) {
      dprintf(2, "%d of %d calls went on in round %d\n", g_returned.load(), kThreads, i);
      _exit(1);
    }
  }
  _exit(0);
}

class RacingFreeDeath : public ::testing::TestWithParam<Race> {};

TEST_P(RacingFreeDeath, OneGoesOnAndTheOthersAreMisuse) {
  ASSERT_EQ(any_allocator_allowed() ? "" : WhyNotOnTarn(), "");
  const ChildEnd end = RunInChild([] { RunRounds(GetParam(), 300); });
  EXPECT_EQ(end.exit_code, 0) << "signal " << end.signal << "\n" << end.output.substr(0, 2000);
  std::istringstream lines(end.output);
  for (std::string line; std::getline(lines, line);) {
    // A report of a guarded object goes on behind its first line. realloc reads an object that may be freed by then.
    const bool is_rest = line.rfind("  ", 0) == 0;
    const bool fits = is_rest || line.rfind("tarn: fatal: free(0x", 0) == 0 ||
                      line.rfind("tarn: fatal: realloc(0x", 0) == 0 || line.rfind("tarn: fatal: read(0x", 0) == 0;
    EXPECT_TRUE(fits) << line;
    if (!fits) break;
  }
}

INSTANTIATE_TEST_SUITE_P(All, RacingFreeDeath, ::testing::ValuesIn(kRaces),
                         [](const auto& race) { return std::string(race.param.name); });

// Every object is sampled (TARN_PROFILE_RATE=1), and so is claimed one by one.
const Race kSampledRaces[] = {{"SampledFree", 1000, Free, true}, {"SampledFreeOrResize", 1000, FreeOrResize, false}};

INSTANTIATE_TEST_SUITE_P(Sampled, RacingFreeDeath, ::testing::ValuesIn(kSampledRaces),
                         [](const auto& race) { return std::string(race.param.name); });

}  // namespace
}  // namespace tarn_test
