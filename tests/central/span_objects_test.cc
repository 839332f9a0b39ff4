// SPDX-License-Identifier: Apache-2.0
//
// The bits of a span: every object is handed out once, found again, and taken back once.

#include "allocator/central/span_objects.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

class SpanObjects : public testing::TestWithParam<int> {
 protected:
  SizeClass size_class() const { return static_cast<SizeClass>(GetParam()); }
  std::size_t size_bytes() const { return kSizeClasses[GetParam()].size_bytes; }
  std::size_t object_count() const { return kSizeClasses[GetParam()].objects_per_span; }
  void* ObjectAt(std::size_t index) const {
    return reinterpret_cast<void*>(span_->start_address() + index * size_bytes());
  }
  std::uintptr_t AddressAt(std::size_t index) const { return reinterpret_cast<std::uintptr_t>(ObjectAt(index)); }

  void SetUp() override {
    static PageHeap& heap = tarn_test::FreshPageHeap();
    heap_ = &heap;
    span_ = heap.AllocateSmall(size_class());
    ASSERT_NE(span_, nullptr);
  }
  void TearDown() override { heap_->Deallocate(span_); }

  PageHeap* heap_ = nullptr;
  Span* span_ = nullptr;
};

TEST_P(SpanObjects, AllAreHandedOutOnceLowestFirst) {
  std::vector<void*> objects(object_count() + 40);
  std::size_t taken = 0;
  for (const std::size_t count : {std::size_t{1}, std::size_t{0}, std::size_t{2}, std::size_t{63}, std::size_t{65}}) {
    taken += TakeObjects(span_, &objects[taken], std::min(count, object_count()));
    ASSERT_EQ(span_->live_objects, taken);
  }
  taken += TakeObjects(span_, &objects[taken], object_count());
  ASSERT_EQ(taken, object_count());
  EXPECT_EQ(span_->live_objects, object_count());
  for (std::size_t i = 0; i < taken; ++i) EXPECT_EQ(objects[i], ObjectAt(i));
  EXPECT_EQ(TakeObjects(span_, objects.data(), 1), 0u);
}

// The lowest numbers mean the first free object, the highest the last, and each object stands for an equal share.
TEST_P(SpanObjects, ARandomNumberChoosesAnyFreeObject) {
  std::mt19937 random(static_cast<std::uint32_t>(GetParam()));
  EXPECT_EQ(TakeObjectAtRandom(span_, 0), ObjectAt(0));
  if (object_count() > 1) {
    EXPECT_EQ(TakeObjectAtRandom(span_, UINT32_MAX), ObjectAt(object_count() - 1));
  }
  std::vector<bool> free(object_count(), true);
  free.front() = free.back() = false;
  for (std::size_t left = object_count() > 1 ? object_count() - 2 : 0; left != 0; --left) {
    const std::size_t rank = random() % left;
    std::size_t expected = 0;
    for (std::size_t seen = 0; seen <= rank; ++expected) seen += free[expected] ? 1 : 0;
    --expected;
    // A number within the share of that one.
    const auto number = static_cast<std::uint32_t>(((std::uint64_t{rank} << 32) + left - 1) / left);
    ASSERT_EQ(TakeObjectAtRandom(span_, number), ObjectAt(expected));
    free[expected] = false;
    ASSERT_FALSE(IsFree(span_, expected));
  }
  EXPECT_EQ(span_->live_objects, object_count());
}

TEST_P(SpanObjects, OnlyStartsOfObjectsAreFound) {
  std::size_t found = 0;
  for (std::uintptr_t offset = 0; offset < span_->bytes(); ++offset) {
    const int index = FindObject(span_, span_->start_address() + offset);
    const bool starts = offset % size_bytes() == 0 && offset / size_bytes() < object_count();
    ASSERT_EQ(index >= 0, starts) << "offset " << offset;
    if (!starts) continue;
    ASSERT_EQ(static_cast<std::size_t>(index), offset / size_bytes());
    ++found;
  }
  EXPECT_EQ(found, object_count());
}

TEST_P(SpanObjects, AReturnIsAcceptedOnce) {
  void* object;
  for (std::size_t i = 0; i < object_count(); ++i) {
    EXPECT_TRUE(IsFree(span_, i));
    EXPECT_FALSE(ReturnObject(span_, i));
    ASSERT_EQ(TakeObjects(span_, &object, 1), 1u);
    EXPECT_FALSE(IsFree(span_, i));
  }
  for (std::size_t i = object_count(); i-- > 0;) {
    EXPECT_TRUE(ReturnObject(span_, i));
    EXPECT_EQ(span_->live_objects, i);
    EXPECT_FALSE(ReturnObject(span_, i));
    EXPECT_EQ(span_->live_objects, i);
    EXPECT_TRUE(IsFree(span_, i));
  }
}

TEST_P(SpanObjects, RandomTakesAndReturnsMatchTheOracle) {
  std::mt19937_64 random(static_cast<std::uint64_t>(GetParam()));
  std::vector<bool> free(object_count(), true);
  std::vector<void*> objects(object_count());
  for (int step = 0; step < 400; ++step) {
    if (random() % 2 == 0) {
      const std::size_t count = random() % 40;
      std::vector<void*> expected;
      for (std::size_t i = 0; i < object_count() && expected.size() < count; ++i) {
        if (!free[i]) continue;
        expected.push_back(ObjectAt(i));
        free[i] = false;
      }
      const std::size_t taken = TakeObjects(span_, objects.data(), std::min(count, object_count()));
      ASSERT_EQ(taken, expected.size());
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), objects.begin()));
    } else {
      for (std::size_t tries = random() % 40; tries != 0; --tries) {
        const std::size_t i = random() % object_count();
        ASSERT_EQ(FindObject(span_, AddressAt(i)), static_cast<int>(i));
        ASSERT_EQ(ReturnObject(span_, i), !free[i]);
        free[i] = true;
      }
    }
    ASSERT_EQ(span_->live_objects, static_cast<std::size_t>(std::ranges::count(free, false)));
  }
}

// Taking and returning writes nothing into the objects.
TEST_P(SpanObjects, UserMemoryIsNotTouched) {
  std::vector<void*> objects(object_count());
  ASSERT_EQ(TakeObjects(span_, objects.data(), object_count()), object_count());
  for (std::size_t i = 0; i < object_count(); ++i) ASSERT_TRUE(ReturnObject(span_, i));
  EXPECT_TRUE(tarn_test::IsZero(span_->start(), span_->bytes()));
}

INSTANTIATE_TEST_SUITE_P(EveryClass, SpanObjects, testing::Range(1, kSizeClassCount));

}  // namespace
}  // namespace tarn
