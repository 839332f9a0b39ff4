// SPDX-License-Identifier: Apache-2.0
//
// The registry when it is full, and names of its limits.
#include <gtest/gtest.h>
#include <tarn/arena.h>
#include <tarn/heap.h>
#include <tarn/registry.h>

#include <cstring>
#include <deque>
#include <string>

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

}  // namespace
