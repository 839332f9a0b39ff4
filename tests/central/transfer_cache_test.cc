// SPDX-License-Identifier: Apache-2.0
//
// The transfer cache: last in, first out, within its bounds, and what it cannot hold goes to the spans.

#include "allocator/central/transfer_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "tests/central/stamped_object.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::HasStamp;
using tarn_test::StampObject;

class TransferCacheTest : public testing::Test {
 protected:
  void Init(int size_class) {
    cache_ = std::make_unique<TransferCache>();
    cache_->Init(static_cast<SizeClass>(size_class), &heap_);
    batch_objects_ = kSizeClasses[size_class].batch_objects;
  }
  std::vector<void*> Take(std::size_t count) {
    std::vector<void*> objects(count);
    for (std::size_t taken = 0; taken < count;) {
      const std::size_t got = cache_->RemoveRange(&objects[taken], std::min(count - taken, batch_objects_));
      EXPECT_NE(got, 0u);
      if (got == 0) break;
      taken += got;
    }
    EXPECT_EQ(std::set<void*>(objects.begin(), objects.end()).size(), count);
    return objects;
  }
  void ExpectAtRest(std::size_t outside_objects) {
    EXPECT_EQ(cache_->central().Stats().live_objects, outside_objects + cache_->cached_objects());
    cache_->central().CheckInvariants();
  }

  PageHeap& heap_ = tarn_test::FreshPageHeap();
  std::unique_ptr<TransferCache> cache_;
  std::size_t batch_objects_ = 0;
};

TEST_F(TransferCacheTest, WhatComesOutFirstWentInLast) {
  Init(5);
  std::vector<void*> objects = Take(3 * batch_objects_);
  for (std::size_t i = 0; i < 3; ++i) cache_->InsertRange(&objects[i * batch_objects_], batch_objects_, "free");
  EXPECT_EQ(cache_->cached_objects(), 3 * batch_objects_);
  ExpectAtRest(0);
  for (std::size_t i = 3; i-- > 0;) {
    std::vector<void*> batch(batch_objects_);
    ASSERT_EQ(cache_->RemoveRange(batch.data(), batch_objects_), batch_objects_);
    EXPECT_TRUE(std::equal(batch.begin(), batch.end(), &objects[i * batch_objects_]));
  }
  EXPECT_EQ(cache_->cached_objects(), 0u);
  ExpectAtRest(3 * batch_objects_);
}

TEST_F(TransferCacheTest, APartOfABatchIsServedWithoutTheSpans) {
  Init(5);
  std::vector<void*> objects = Take(7);
  cache_->InsertRange(objects.data(), 3, "free");
  std::vector<void*> batch(batch_objects_);
  EXPECT_EQ(cache_->RemoveRange(batch.data(), 2), 2u);
  EXPECT_EQ(batch[0], objects[1]);
  EXPECT_EQ(batch[1], objects[2]);
  EXPECT_EQ(cache_->RemoveRange(batch.data(), batch_objects_), 1u);
  EXPECT_EQ(batch[0], objects[0]);
  ExpectAtRest(7);
}

TEST_F(TransferCacheTest, HoldsABoundedNumberOfBytesOfEveryClass) {
  std::size_t all_bytes = 0;
  for (int c = 1; c < kSizeClassCount; ++c) {
    Init(c);
    const std::size_t size_bytes = kSizeClasses[c].size_bytes;
    const std::size_t count = 20 * batch_objects_;
    std::vector<void*> objects = Take(count);
    for (std::size_t i = 0; i < count; i += batch_objects_) {
      cache_->InsertRange(&objects[i], batch_objects_, "free");
      ASSERT_EQ(cache_->central().Stats().live_objects, count - i - batch_objects_ + cache_->cached_objects());
    }
    const std::size_t cached_objects = cache_->cached_objects();
    // Whole batches, a few of them, of at most 128 KiB; one at least where it is not large itself.
    EXPECT_TRUE(cached_objects >= batch_objects_ || batch_objects_ * size_bytes > std::size_t{32} << 10) << c;
    EXPECT_LE(cached_objects, 16 * batch_objects_) << "class " << c;
    EXPECT_EQ(cached_objects % batch_objects_, 0u) << "class " << c;
    EXPECT_LE(cached_objects * size_bytes, std::size_t{128} << 10) << "class " << c;
    all_bytes += cached_objects * size_bytes;
    ExpectAtRest(0);
    EXPECT_EQ(cache_->Drain("malloc_trim"), cached_objects * size_bytes);
    EXPECT_EQ(cache_->cached_objects(), 0u);
    EXPECT_EQ(cache_->central().Stats().spans, 0u);
    EXPECT_EQ(cache_->Drain("malloc_trim"), 0u);
  }
  EXPECT_LE(all_bytes, std::size_t{10} << 20);
  EXPECT_EQ(heap_.Stats().in_use_bytes, 0u);
}

TEST_F(TransferCacheTest, AClassThatIsNeverFreedHasNoArray) {
  Init(2);
  static_cast<void>(Take(1));
  const std::size_t used_bytes = heap_.Stats().metadata_used_bytes;
  std::vector<void*> objects = Take(200);
  EXPECT_EQ(heap_.Stats().metadata_used_bytes, used_bytes);
  EXPECT_EQ(cache_->Drain("malloc_trim"), 0u);
  cache_->InsertRange(objects.data(), 1, "free");
  EXPECT_GT(heap_.Stats().metadata_used_bytes, used_bytes);
}

TEST_F(TransferCacheTest, MisuseIsSeenWhereItReachesTheSpans) {
  Init(5);
  std::vector<void*> objects = Take(4);
  void* twice[] = {objects[0], objects[0]};
  cache_->InsertRange(twice, 2, "free");
  EXPECT_DEATH(cache_->Drain("malloc_trim"), "malloc_trim\\(0x[0-9a-f]+\\): object is already free");
}

TEST_F(TransferCacheTest, ThreadsNeverOwnTheSameObject) {
  constexpr int kThreads = 8;
  for (const int size_class : {2, 25, 50}) {
    Init(size_class);
    const auto c = static_cast<SizeClass>(size_class);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937_64 random(static_cast<std::uint64_t>(t) + 50);
        const std::uint64_t stamp = 0xB000 + static_cast<std::uint64_t>(t);
        std::vector<void*> mine;
        std::vector<void*> batch(batch_objects_);
        for (int step = 0; step < 2500; ++step) {
          const std::size_t count = 1 + random() % batch_objects_;
          if (random() % 2 == 0 && mine.size() < 8 * batch_objects_) {
            const std::size_t got = cache_->RemoveRange(batch.data(), count);
            ASSERT_TRUE(got != 0 && got <= count);
            for (std::size_t i = 0; i < got; ++i) StampObject(batch[i], c, stamp);
            mine.insert(mine.end(), batch.begin(), batch.begin() + static_cast<std::ptrdiff_t>(got));
          } else if (random() % 200 == 0) {
            cache_->Drain("malloc_trim");
          } else {
            const std::size_t given = std::min(count, mine.size());
            for (std::size_t i = 0; i < given; ++i) {
              std::swap(mine[random() % mine.size()], mine.back());
              batch[i] = mine.back();
              mine.pop_back();
              ASSERT_TRUE(HasStamp(batch[i], c, stamp)) << "another thread has the object too";
              StampObject(batch[i], c, 0);
            }
            if (given != 0) cache_->InsertRange(batch.data(), given, "free");
          }
        }
        for (void*& object : mine) {
          ASSERT_TRUE(HasStamp(object, c, stamp));
          cache_->InsertRange(&object, 1, "free");
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    ExpectAtRest(0);
    cache_->Drain("malloc_trim");
    EXPECT_EQ(cache_->central().Stats().spans, 0u);
    EXPECT_EQ(cache_->central().Stats().live_objects, 0u);
    EXPECT_EQ(heap_.Stats().in_use_bytes, 0u);
  }
}

}  // namespace
}  // namespace tarn
