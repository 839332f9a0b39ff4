// SPDX-License-Identifier: Apache-2.0
//
// Misuse lines of malloc for pointers that belong to an arena or a pool.
#include <gtest/gtest.h>
#include <malloc.h>
#include <stdlib.h>
#include <tarn/arena.h>

namespace {

TEST(RegionMisuseDeath, FreeOfAnArenasPointerIsNamed) {
  tarn::Arena arena;
  auto* first = static_cast<char*>(arena.Allocate(20000));
  EXPECT_DEATH(free(first), "tarn: fatal: free\\(.*\\): pointer belongs to an arena or a pool of tarn");
  EXPECT_DEATH(free(first + 16000), "pointer belongs to an arena or a pool of tarn");
  void* moved = nullptr;
  EXPECT_DEATH(moved = realloc(first, 5);
               exit(moved == nullptr), "realloc\\(.*pointer belongs to an arena or a pool of tarn");
  EXPECT_DEATH(operator delete(first), "operator delete\\(.*pointer belongs to an arena or a pool of tarn");
  EXPECT_DEATH(static_cast<void>(malloc_usable_size(first)), "pointer belongs to an arena or a pool of tarn");
}

TEST(RegionMisuse, TrimGivesKeptRegionsBack) {
  for (int i = 0; i < 10; ++i) {
    tarn::Arena arena;
    static_cast<void>(arena.Allocate(1));
  }
  malloc_trim(0);
  tarn::Arena arena;
  EXPECT_NE(arena.TryAllocate(1), nullptr);
}

}  // namespace
