// SPDX-License-Identifier: Apache-2.0
//
// Threads that come and go: many short ones that free each other's objects, destructors at their
// end, memory that stays within bounds.

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "tests/base/patience.h"
#include "tests/life/churn.h"
#include "tests/life/expect_child.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;

// Objects that one thread leaves for another.
struct Packet {
  static constexpr size_t kObjects = 8;
  void* objects[kObjects];
  size_t sizes[kObjects];
  uint64_t seed;
};

Packet* MakePacket(uint64_t seed) {
  Packet* packet = static_cast<Packet*>(malloc(sizeof(Packet)));
  TARN_LIFE_REQUIRE(packet != nullptr);
  Random random(seed);
  packet->seed = seed;
  for (size_t i = 0; i < Packet::kObjects; ++i) {
    packet->sizes[i] = random.Size(20 * kKiB);
    packet->objects[i] = malloc(packet->sizes[i]);
    TARN_LIFE_REQUIRE(packet->objects[i] != nullptr);
    Fill(packet->objects[i], seed + i, 0, packet->sizes[i]);
  }
  return packet;
}

void DropPacket(Packet* packet) {
  if (packet == nullptr) return;
  for (size_t i = 0; i < Packet::kObjects; ++i) {
    TARN_LIFE_REQUIRE(Holds(packet->objects[i], packet->seed + i, 0, packet->sizes[i]));
    free(packet->objects[i]);
  }
  free(packet);
}

constexpr size_t kMailboxes = 32;
std::atomic<Packet*> g_mailboxes[kMailboxes];

void* ShortLife(void* argument) {
  const uint64_t number = reinterpret_cast<uintptr_t>(argument);
  DropPacket(g_mailboxes[number * 7 % kMailboxes].exchange(nullptr));
  DropPacket(g_mailboxes[number * 3 % kMailboxes].exchange(MakePacket(number)));
  return nullptr;
}

// 100 000 threads, eight at a time; each frees what others allocated and leaves something behind.
TEST(Threads, HundredThousandShortOnesDoNotGrowTheProcess) {
  ExpectGoodEnd(kBodySeconds, [] {
    // A slab of their own at each birth and its drain at each death take longer, and say the same after fewer.
    const char* const mode = getenv("TARN_MODE");
    const size_t thread_count = mode != nullptr && strcmp(mode, "thread") == 0 ? 30000 : 100000;
    constexpr size_t kAtATime = 8;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 128 * kKiB);
    size_t early = 0;
    for (size_t started = 0; started < thread_count; started += kAtATime) {
      pthread_t threads[kAtATime];
      for (size_t i = 0; i < kAtATime; ++i) {
        void* argument = reinterpret_cast<void*>(started + i);
        TARN_LIFE_REQUIRE(pthread_create(&threads[i], &attributes, ShortLife, argument) == 0);
      }
      for (const pthread_t thread : threads) TARN_LIFE_REQUIRE(pthread_join(thread, nullptr) == 0);
      if (started == 10000) early = ResidentBytes();
    }
    for (std::atomic<Packet*>& mailbox : g_mailboxes) DropPacket(mailbox.exchange(nullptr));
    const size_t late = ResidentBytes();
    dprintf(1, "resident after 10000 threads: %zu KiB, after all: %zu KiB\n", early / kKiB, late / kKiB);
    TARN_LIFE_REQUIRE(early > 0 && late < early + 12 * kMiB);
  });
}

// Objects that wander from one thread, which only allocates, to another, which only frees.
TEST(Threads, OneAllocatesAndOneFrees) {
  ExpectGoodEnd(kBodySeconds, [] {
    constexpr size_t kRing = 4096;
    constexpr size_t kObjects = 2000000;
    const auto ring = std::make_unique<std::atomic<size_t*>[]>(kRing);
    std::thread consumer([&ring] {
      for (size_t i = 0; i < kObjects; ++i) {
        size_t* object = nullptr;
        while ((object = ring[i % kRing].exchange(nullptr)) == nullptr) sched_yield();
        TARN_LIFE_REQUIRE(object[0] == i && object[1] == ~i);
        free(object);
      }
    });
    size_t early = 0;
    for (size_t i = 0; i < kObjects; ++i) {
      size_t* object = static_cast<size_t*>(malloc(16 + i % 30 * 16));
      TARN_LIFE_REQUIRE(object != nullptr);
      object[0] = i;
      object[1] = ~i;
      while (ring[i % kRing].load() != nullptr) sched_yield();
      ring[i % kRing].store(object);
      if (i == kObjects / 8) early = ResidentBytes();
    }
    consumer.join();
    const size_t late = ResidentBytes();
    dprintf(1, "resident early: %zu KiB, late: %zu KiB\n", early / kKiB, late / kKiB);
    TARN_LIFE_REQUIRE(late < early + 16 * kMiB);
  });
}

pthread_key_t g_key;
std::atomic<int> g_key_calls = 0;
std::atomic<int> g_thread_local_calls = 0;

// Frees what the thread left, and comes again, up to four rounds, as POSIX allows.
void DestroyKey(void* value) {
  g_key_calls.fetch_add(1);
  size_t* object = static_cast<size_t*>(value);
  const size_t round = object[0];
  TARN_LIFE_REQUIRE(round >= 1 && round <= PTHREAD_DESTRUCTOR_ITERATIONS);
  free(object);
  Churn(round, 30 * kKiB).Steps(60);
  if (round < PTHREAD_DESTRUCTOR_ITERATIONS) {
    size_t* next = static_cast<size_t*>(malloc(100 * round));
    TARN_LIFE_REQUIRE(next != nullptr);
    next[0] = round + 1;
    TARN_LIFE_REQUIRE(pthread_setspecific(g_key, next) == 0);
  }
}

struct WithDestructor {
  std::vector<int> numbers = std::vector<int>(100, 5);
  ~WithDestructor() {
    g_thread_local_calls.fetch_add(1);
    TARN_LIFE_REQUIRE(numbers[99] == 5);
    Churn(3, 30 * kKiB).Steps(60);
  }
};
thread_local WithDestructor t_with_destructor;

TEST(Threads, DestructorsAtTheirEndAllocateAndFree) {
  ExpectGoodEnd(kBodySeconds, [] {
    TARN_LIFE_REQUIRE(pthread_key_create(&g_key, DestroyKey) == 0);
    constexpr int kThreads = 6000;
    size_t early = 0;
    for (int i = 0; i < kThreads; i += 4) {
      std::vector<std::thread> threads;
      for (int k = 0; k < 4; ++k) {
        threads.emplace_back([k] {
          // Half of the threads allocate nothing before their destructors do.
          if (k % 2 == 0) Churn(1, 30 * kKiB).Steps(20);
          t_with_destructor.numbers[0] = 1;
          size_t* value = static_cast<size_t*>(malloc(sizeof(size_t)));
          TARN_LIFE_REQUIRE(value != nullptr);
          value[0] = 1;
          TARN_LIFE_REQUIRE(pthread_setspecific(g_key, value) == 0);
        });
      }
      for (std::thread& thread : threads) thread.join();
      if (i == 1000) early = ResidentBytes();
    }
    TARN_LIFE_REQUIRE(g_key_calls == kThreads * PTHREAD_DESTRUCTOR_ITERATIONS);
    TARN_LIFE_REQUIRE(g_thread_local_calls == kThreads);
    TARN_LIFE_REQUIRE(ResidentBytes() < early + 12 * kMiB);
  });
}

// Detached threads are still running, and some are in malloc, when the process ends.
TEST(Threads, ProcessEndsWhileThreadsAllocate) {
  for (uint64_t i = 0; i < 60; ++i) {
    ExpectGoodEnd(kBodySeconds, [i] {
      for (uint64_t k = 0; k < 3; ++k) {
        std::thread([k] {
          Churn churn(k);
          while (true) churn.Step();
        }).detach();
      }
      Churn(i).Steps(1000 + 100 * i);
    });
  }
}

// A thread that is cancelled, or that leaves by pthread_exit, in the middle of its work.
TEST(Threads, CancelledAndExited) {
  ExpectGoodEnd(kBodySeconds, [] {
    for (int i = 0; i < 1000; ++i) {
      pthread_t cancelled;
      TARN_LIFE_REQUIRE(pthread_create(
                            &cancelled, nullptr,
                            [](void*) -> void* {
                              while (true) {
                                free(malloc(100));
                                pthread_testcancel();
                              }
                            },
                            nullptr) == 0);
      pthread_t exited;
      TARN_LIFE_REQUIRE(pthread_create(
                            &exited, nullptr,
                            [](void*) -> void* {
                              free(malloc(200));
                              pthread_exit(nullptr);
                            },
                            nullptr) == 0);
      pthread_cancel(cancelled);
      TARN_LIFE_REQUIRE(pthread_join(cancelled, nullptr) == 0);
      TARN_LIFE_REQUIRE(pthread_join(exited, nullptr) == 0);
    }
    Churn(1).Steps(1000);
  });
}

}  // namespace
}  // namespace tarn_test
