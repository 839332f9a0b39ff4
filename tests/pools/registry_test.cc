// SPDX-License-Identifier: Apache-2.0
//
// The registry: threads that meet at a name, records that are not whole, the last record, and names of its limits.
#include <gtest/gtest.h>
#include <tarn/arena.h>
#include <tarn/heap.h>
#include <tarn/registry.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "allocator/observe/published.h"
#include "allocator/pools/registry.h"
#include "tests/os/in_child.h"

namespace {

// In a child each, because records are never given back.
TEST(Registry, NamesBeyondTheLastRecordShareIt) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              constexpr int kArenas = TARN_REGISTRY_RECORDS + 50;
              const tarn_registry_record* const records = tarn_registry();
              int taken_before = 0;
              while (records[taken_before].state != 0) ++taken_before;
              std::deque<tarn::Arena> arenas;
              for (int i = 0; i < kArenas; ++i) {
                arenas.emplace_back(("arena " + std::to_string(i)).c_str());
                static_cast<void>(arenas.back().Allocate(1000));
              }
              const tarn_registry_record& last = records[TARN_REGISTRY_RECORDS - 1];
              TARN_REQUIRE(std::strcmp(last.name, "(others)") == 0 && last.kind == TARN_KIND_NONE);
              // Those before it have one each.
              TARN_REQUIRE(last.instances == kArenas - (TARN_REGISTRY_RECORDS - 1 - taken_before));
              TARN_REQUIRE(std::strcmp(records[TARN_REGISTRY_RECORDS - 2].name, last.name) != 0);
              TARN_REQUIRE(records[TARN_REGISTRY_RECORDS - 2].instances == 1);
              // Of any kind, and known names find their records still.
              const tarn::Heap heap({.name = "one more"});
              TARN_REQUIRE(last.instances == kArenas - (TARN_REGISTRY_RECORDS - 1 - taken_before) + 1);
              const tarn::Arena known("arena 0");
              TARN_REQUIRE(records[taken_before].instances == 2);
            }),
            "");
}

TEST(Registry, KindsWithOneNameHaveRecordsOfTheirOwnAndLongNamesAreCut) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              const std::string name(TARN_REGISTRY_NAME_BYTES + 10, 'x');
              const tarn_registry_record* const records = tarn_registry();
              int first = 0;
              while (records[first].state != 0) ++first;
              const tarn::Arena arena(name.c_str());
              const tarn::Heap heap({.name = name.c_str()});
              const tarn::Arena another((name + "y").c_str());
              TARN_REQUIRE(records[first].kind == TARN_KIND_ARENA && records[first].instances == 2);
              TARN_REQUIRE(records[first + 1].kind == TARN_KIND_HEAP && records[first + 1].instances == 1);
              TARN_REQUIRE(records[first].name == name.substr(0, TARN_REGISTRY_NAME_BYTES - 1));
              TARN_REQUIRE(records[first + 2].state == 0);
            }),
            "");
}

// Of threads that meet at a name each counts once, in a record that has this name. (Rarely in two: a thread waits for
// the writer of a name for a bounded time.) Not in a child: ThreadSanitizer allows it no threads.
TEST(Registry, ThreadsThatMeetAtANameLoseNone) {
  constexpr int kThreads = 8;
  constexpr int kNames = 20;
  const auto name_of = [](int i) { return "met " + std::to_string(i); };
  std::atomic<int> arrived[kNames] = {};
  tarn_registry_record* joined[kThreads][kNames] = {};
  std::vector<std::thread> threads;
  for (auto& records : joined) {
    threads.emplace_back([&] {
      for (int i = 0; i < kNames; ++i) {
        const std::string name = name_of(i);
        // All of them begin with a name at the same time.
        ++arrived[i];
        while (arrived[i].load() < kThreads) std::this_thread::yield();
        records[i] = tarn::JoinRegistry(name.c_str(), TARN_KIND_HEAP);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int i = 0; i < kNames; ++i) {
    std::int64_t instances = 0;
    for (int k = 0; k < TARN_REGISTRY_RECORDS; ++k) {
      const tarn_registry_record& record = tarn_registry()[k];
      if (record.name == name_of(i)) instances += record.instances;
    }
    EXPECT_EQ(instances, kThreads) << i;
    for (const auto& records : joined) {
      ASSERT_NE(records[i], nullptr);
      EXPECT_EQ(records[i]->name, name_of(i));
      tarn::LeaveRegistry(records[i]);
    }
  }
}

// As a fork leaves it, in whose parent another thread was writing the name.
TEST(Registry, ARecordThatIsNotWholeIsPassedOver) {
  EXPECT_EQ(tarn_test::ComplaintOfChild([] {
              int first = 0;
              while (tarn::own_registry[first].state != 0) ++first;
              tarn_registry_record& cut = tarn::own_registry[first];
              cut.state = 1;
              cut.kind = TARN_KIND_HEAP;
              std::strcpy(cut.name, "texts");
              tarn_registry_record* const whole = tarn::JoinRegistry("texts", TARN_KIND_HEAP);
              TARN_REQUIRE(whole == &cut + 1 && whole->state == 2 && whole->instances == 1);
              TARN_REQUIRE(cut.state == 1 && cut.instances == 0);
            }),
            "");
}

TEST(Registry, WithoutANameThereIsNoRecord) {
  EXPECT_EQ(tarn::JoinRegistry("", TARN_KIND_HEAP), nullptr);
  EXPECT_EQ(tarn::JoinRegistry(nullptr, TARN_KIND_HEAP), nullptr);
  tarn::LeaveRegistry(nullptr);
}

}  // namespace
