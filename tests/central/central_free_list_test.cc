// SPDX-License-Identifier: Apache-2.0
//
// The central free list: each object has one owner at a time, full spans go first, empty ones go back, and misuse ends
// the process with the right words.

#include "allocator/central/central_free_list.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "allocator/central/span_objects.h"
#include "allocator/pages/page_map.h"
#include "tests/central/stamped_object.h"
#include "tests/os/in_child.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

using tarn_test::ExpectConsistent;
using tarn_test::HasStamp;
using tarn_test::StampObject;

Span* SpanOf(const void* object) { return page_map.SpanOf(PageId::Containing(object)); }

class CentralFreeListTest : public testing::Test {
 protected:
  CentralFreeList& List(int size_class) {
    list_.ReleaseKept();
    list_.Init(static_cast<SizeClass>(size_class), &heap_);
    return list_;
  }
  std::vector<void*> Take(std::size_t count) {
    std::vector<void*> objects(count);
    for (std::size_t taken = 0; taken < count;) {
      const std::size_t got = list_.RemoveRange(&objects[taken], std::min(count - taken, kMaxBatchObjects));
      EXPECT_EQ(got, std::min(count - taken, kMaxBatchObjects));
      taken += got;
    }
    return objects;
  }
  void Give(const std::vector<void*>& objects) {
    for (std::size_t given = 0; given < objects.size(); given += kMaxBatchObjects) {
      list_.InsertRange(&objects[given], std::min(objects.size() - given, kMaxBatchObjects), "free");
    }
  }
  void ExpectStats(std::size_t live_objects) {
    const CentralFreeListStats stats = list_.Stats();
    EXPECT_EQ(stats.live_objects, live_objects);
    list_.CheckInvariants();
    ExpectConsistent(heap_);
  }

  PageHeap& heap_ = tarn_test::FreshPageHeap();
  CentralFreeList list_;
};

TEST_F(CentralFreeListTest, StartsEmpty) {
  List(5);
  ExpectStats(0);
  EXPECT_EQ(list_.Stats().spans, 0u);
}

// A heap that is large enough to be populated ahead brings no memory for a class with a few objects.
TEST_F(CentralFreeListTest, TheFirstSpansOfAClassAreNotPopulated) {
  void* probe = nullptr;
  // In use, and not touched.
  bool zero;
  Span* large = heap_.AllocateLarge(PageCount(16 * kPagesPerHugePage), PageCount(1), &zero);
  ASSERT_NE(large, nullptr);
  if (!Populate(large->start(), kPageBytes)) GTEST_SKIP() << "the kernel has no MADV_POPULATE_WRITE";
  List(MallocSizeClass(1536));
  const std::uint64_t before = heap_.fresh_bytes();
  ASSERT_EQ(list_.RemoveRange(&probe, 1), 1u);
  const std::size_t span_bytes = SpanOf(probe)->bytes();
  EXPECT_EQ(heap_.fresh_bytes() - before, span_bytes) << "nothing was brought ahead";
  EXPECT_EQ(tarn_test::ResidentBytes(SpanOf(probe)->start(), span_bytes), 0u);
  // A class that grows is.
  const std::vector<void*> objects = Take((std::size_t{256} << 10) / 1536);
  const Span* last = SpanOf(objects.back());
  EXPECT_EQ(tarn_test::ResidentBytes(last->start(), last->bytes()), span_bytes);
  Give(objects);
  Give({probe});
}

TEST_F(CentralFreeListTest, NoObjectIsHandedOutTwice) {
  for (int c = 1; c < kSizeClassCount; ++c) {
    List(c);
    const SizeClassInfo& info = kSizeClasses[c];
    const std::size_t spans = 5;
    const std::size_t count = spans * info.objects_per_span;
    const std::vector<void*> objects = Take(count);
    std::vector<std::uintptr_t> addresses;
    for (void* object : objects) addresses.push_back(reinterpret_cast<std::uintptr_t>(object));
    std::ranges::sort(addresses);
    for (std::size_t i = 0; i < count; ++i) {
      ASSERT_TRUE(i == 0 || addresses[i - 1] + info.size_bytes <= addresses[i]) << "two objects overlap";
      ASSERT_EQ(page_map.ClassOf(addresses[i]), c);
      ASSERT_GE(FindObject(SpanOf(reinterpret_cast<void*>(addresses[i])), addresses[i]), 0);
    }
    EXPECT_EQ(list_.Stats().spans, spans);
    EXPECT_EQ(list_.Stats().free_objects, 0u);
    ExpectStats(count);
    Give(objects);
    EXPECT_EQ(list_.Stats().spans, 0u);
    ExpectStats(0);
    EXPECT_EQ(heap_.Stats().in_use_bytes, 0u);
  }
}

TEST_F(CentralFreeListTest, TheFullestSpanServesFirst) {
  constexpr int kClass = 9;  // 64 objects per span
  List(kClass);
  const std::size_t per_span = kSizeClasses[kClass].objects_per_span;
  const std::vector<void*> objects = Take(3 * per_span);
  // One, 10 and 40 objects go back to the three spans, in every order.
  std::vector<std::vector<void*>> by_span(3);
  std::vector<Span*> spans;
  for (void* object : objects) {
    Span* span = SpanOf(object);
    auto at = std::ranges::find(spans, span);
    if (at == spans.end()) at = spans.insert(spans.end(), span);
    by_span[static_cast<std::size_t>(at - spans.begin())].push_back(object);
  }
  ASSERT_EQ(spans.size(), 3u);
  const std::size_t free_counts[] = {1, 10, 40};
  std::size_t order[] = {0, 1, 2};
  do {
    for (const std::size_t i : order) {
      Give(std::vector<void*>(by_span[i].begin(), by_span[i].begin() + static_cast<std::ptrdiff_t>(free_counts[i])));
    }
    list_.CheckInvariants();
    // The fullest is emptied out before the next one is touched, whatever the size of the batches.
    for (std::size_t i = 0; i < 3; ++i) {
      for (std::size_t left = free_counts[i]; left != 0;) {
        void* batch[7];
        const std::size_t got = list_.RemoveRange(batch, std::min<std::size_t>(left, 7));
        for (std::size_t k = 0; k < got; ++k) EXPECT_EQ(SpanOf(batch[k]), spans[i]);
        left -= got;
      }
    }
    ExpectStats(3 * per_span);
  } while (std::next_permutation(std::begin(order), std::end(order)));
  EXPECT_EQ(list_.Stats().spans, 3u);
  Give(objects);
}

TEST_F(CentralFreeListTest, ABatchIsPutTogetherFromSeveralSpans) {
  constexpr int kClass = 33;  // 4 objects per span
  List(kClass);
  const std::vector<void*> objects = Take(80);
  std::vector<void*> some;
  std::vector<void*> rest;
  for (std::size_t i = 0; i < objects.size(); ++i) (i % 4 == 0 ? some : rest).push_back(objects[i]);
  Give(some);
  void* batch[kMaxBatchObjects];
  ASSERT_EQ(list_.RemoveRange(batch, some.size()), some.size());
  EXPECT_EQ(std::set<void*>(batch, batch + some.size()), std::set<void*>(some.begin(), some.end()));
  ExpectStats(80);
  Give(objects);
  ExpectStats(0);
}

TEST_F(CentralFreeListTest, AnEmptySpanGoesBackAtOnce) {
  constexpr int kClass = 2;
  List(kClass);
  const std::size_t per_span = kSizeClasses[kClass].objects_per_span;
  std::vector<void*> objects = Take(2 * per_span);
  std::ranges::sort(objects);
  Span* const first = SpanOf(objects[0]);
  std::vector<void*> of_first;
  for (void* object : objects) {
    if (SpanOf(object) == first) of_first.push_back(object);
  }
  ASSERT_EQ(of_first.size(), per_span);
  void* const last = of_first.back();
  of_first.pop_back();
  Give(of_first);
  EXPECT_EQ(list_.Stats().spans, 2u);
  Give({last});
  EXPECT_EQ(list_.Stats().spans, 1u);
  EXPECT_EQ(SpanOf(last), nullptr);
  EXPECT_EQ(heap_.Stats().in_use_bytes, PageCount(kSizeClasses[kClass].span_pages).bytes());
  ExpectStats(per_span);
}

// Spans of one object are full and empty in turn, and never on a list.
TEST_F(CentralFreeListTest, SpansOfOneObjectComeAndGo) {
  List(kSizeClassCount - 1);
  ASSERT_EQ(kSizeClasses[kSizeClassCount - 1].objects_per_span, 1);
  for (int round = 0; round < 3; ++round) {
    const std::vector<void*> objects = Take(5);
    EXPECT_EQ(list_.Stats().spans, 5u);
    ExpectStats(5);
    Give(objects);
    // One is kept once the class has needed a span after it gave one back.
    EXPECT_EQ(list_.Stats().spans, round == 0 ? 0u : 1u);
    EXPECT_EQ(list_.kept_spans(), list_.Stats().spans);
    ExpectStats(0);
  }
  list_.ReleaseKept();
  EXPECT_EQ(heap_.Stats().in_use_bytes, 0u);
}

TEST_F(CentralFreeListTest, AClassThatNeedsSpansAgainKeepsMoreOfThem) {
  constexpr int kClass = 40;
  List(kClass);
  const SizeClassInfo& info = kSizeClasses[kClass];
  const std::size_t span_bytes = info.span_pages * kPageBytes;
  const std::size_t most_spans = (std::size_t{256} << 10) / span_bytes;
  ASSERT_GE(most_spans, 2u);
  // A list that only grows, or only shrinks, keeps nothing.
  Give(Take(3 * info.objects_per_span));
  EXPECT_EQ(list_.kept_spans(), 0u);
  for (std::size_t round = 1; round <= most_spans + 2; ++round) {
    Give(Take(info.objects_per_span * (most_spans + 2)));
    EXPECT_EQ(list_.kept_spans(), std::min(round, most_spans)) << "one more each time";
    ExpectStats(0);
  }
  // They serve: the page heap has nothing to do.
  const std::size_t in_use_bytes = heap_.Stats().in_use_bytes;
  const std::vector<void*> objects = Take(info.objects_per_span * most_spans);
  EXPECT_EQ(heap_.Stats().in_use_bytes, in_use_bytes);
  EXPECT_EQ(list_.kept_spans(), 0u);
  Give(objects);
  EXPECT_EQ(list_.kept_spans(), most_spans);
  // A second free of an object in a span that is kept is seen as ever.
  EXPECT_DEATH(Give({objects[0]}), "object is already free");
  list_.ReleaseKept();
  EXPECT_EQ(heap_.Stats().in_use_bytes, 0u);
  Give(Take(3 * info.objects_per_span));
  EXPECT_EQ(list_.kept_spans(), 0u) << "it learns anew";
  ExpectStats(0);
}

TEST_F(CentralFreeListTest, WithoutMemoryThereIsLessOrNothing) {
  if (tarn_test::kSanitized) GTEST_SKIP() << "a sanitizer needs address space of its own";
  EXPECT_EQ(tarn_test::ComplaintOfChild([this] {
              List(58);
              tarn_test::LimitFurtherAddressSpace(std::size_t{32} << 20);
              std::size_t taken = 0;
              void* batch[kMaxBatchObjects];
              while (true) {
                const std::size_t got = list_.RemoveRange(batch, kMaxBatchObjects);
                taken += got;
                if (got < kMaxBatchObjects) break;
              }
              TARN_REQUIRE(taken >= 32 && taken <= 128);
              TARN_REQUIRE(list_.RemoveRange(batch, 1) == 0);
              TARN_REQUIRE(list_.Stats().live_objects == taken);
              list_.CheckInvariants();
            }),
            "");
}

// --- Misuse --------------------------------------------------------------------------------------------------------

class CentralFreeListDeathTest : public CentralFreeListTest {
 protected:
  void Insert(void* object, const char* call = "free") { list_.InsertRange(&object, 1, call); }
  static void* Plus(void* object, std::ptrdiff_t bytes) { return static_cast<char*>(object) + bytes; }
};

TEST_F(CentralFreeListDeathTest, AnObjectThatIsFree) {
  List(6);
  const std::vector<void*> objects = Take(10);
  Insert(objects[3]);
  EXPECT_DEATH(Insert(objects[3]), "^tarn: fatal: free\\(0x[0-9a-f]+\\): object is already free\n");
  EXPECT_DEATH(Insert(objects[3], "realloc"), "tarn: fatal: realloc\\(0x[0-9a-f]+\\): object is already free\n");
  // Both in one batch, also when the span becomes empty in between.
  void* twice[] = {objects[4], objects[5], objects[4]};
  EXPECT_DEATH(list_.InsertRange(twice, 3, "free"), "object is already free");
  Give({objects[0], objects[1], objects[2], objects[4], objects[5], objects[6], objects[7], objects[8]});
  void* last_twice[] = {objects[9], objects[9]};
  EXPECT_DEATH(list_.InsertRange(last_twice, 2, "free"), "object is already free");
  // One that was never handed out.
  EXPECT_DEATH(Insert(Plus(objects[9], static_cast<std::ptrdiff_t>(kSizeClasses[6].size_bytes))),
               "object is already free");
  ExpectStats(1);
}

TEST_F(CentralFreeListDeathTest, AnAddressInsideOfAnObject) {
  List(4);  // 48 bytes, and a tail at the end of the span
  const std::vector<void*> objects = Take(4);
  for (const std::ptrdiff_t offset : {1, 8, 16, 47}) {
    EXPECT_DEATH(Insert(Plus(objects[1], offset)), "pointer is inside an object, not at its start: the object of ");
  }
  Span* span = SpanOf(objects[0]);
  const auto tail = static_cast<std::ptrdiff_t>(span->object_count * kSizeClasses[4].size_bytes);
  EXPECT_DEATH(Insert(Plus(span->start(), tail)), "pointer is inside an object, not at its start\n");
  ExpectStats(4);
}

TEST_F(CentralFreeListDeathTest, ASpanThatWentBack) {
  List(10);
  const std::vector<void*> objects = Take(3);
  Give(objects);
  ASSERT_EQ(list_.Stats().spans, 0u);
  EXPECT_DEATH(Insert(objects[1]), "span is already free\n");
}

TEST_F(CentralFreeListDeathTest, AnObjectOfAnotherClass) {
  List(10);
  CentralFreeList other;
  other.Init(11, &heap_);
  void* object;
  ASSERT_EQ(other.RemoveRange(&object, 1), 1u);
  EXPECT_DEATH(Insert(object), "size does not match the object: .* bytes were given, the object has ");
  Span* large = tarn_test::Large(heap_, 50);
  EXPECT_DEATH(Insert(large->start()), "span is already free\n");
}

// --- Threads -------------------------------------------------------------------------------------------------------

TEST_F(CentralFreeListTest, ThreadsNeverOwnTheSameObject) {
  constexpr int kThreads = 8;
  for (const int size_class : {1, 5, 33, 47}) {
    List(size_class);
    const auto c = static_cast<SizeClass>(size_class);
    const std::size_t most_objects = size_class < 40 ? 400 : 12;
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        std::mt19937_64 random(static_cast<std::uint64_t>(t));
        const std::uint64_t stamp = 0xA000 + static_cast<std::uint64_t>(t);
        std::vector<void*> mine;
        for (int step = 0; step < 1200; ++step) {
          const std::size_t count = 1 + random() % kMaxBatchObjects;
          void* batch[kMaxBatchObjects];
          if (random() % 2 == 0 && mine.size() < most_objects) {
            ASSERT_EQ(list_.RemoveRange(batch, count), count);
            for (std::size_t i = 0; i < count; ++i) StampObject(batch[i], c, stamp);
            mine.insert(mine.end(), batch, batch + count);
          } else {
            const std::size_t given = std::min(count, mine.size());
            for (std::size_t i = 0; i < given; ++i) {
              std::swap(mine[random() % mine.size()], mine.back());
              batch[i] = mine.back();
              mine.pop_back();
              ASSERT_TRUE(HasStamp(batch[i], c, stamp)) << "another thread has the object too";
              StampObject(batch[i], c, 0);
            }
            list_.InsertRange(batch, given, "free");
          }
          if (step % 100 == 0) list_.CheckInvariants();
        }
        for (void* object : mine) ASSERT_TRUE(HasStamp(object, c, stamp));
        Give(mine);
      });
    }
    for (std::thread& thread : threads) thread.join();
    ExpectStats(0);
    EXPECT_EQ(list_.Stats().spans, list_.kept_spans());
    list_.ReleaseKept();
    EXPECT_EQ(list_.Stats().spans, 0u);
    EXPECT_EQ(heap_.Stats().in_use_bytes, 0u);
  }
}

}  // namespace
}  // namespace tarn
