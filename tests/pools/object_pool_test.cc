// SPDX-License-Identifier: Apache-2.0
//
// Object pools: contents under threads, destructors, iteration, regions that go back, misuse.
#include <gtest/gtest.h>
#include <tarn/object_pool.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <set>
#include <thread>
#include <vector>

namespace {

struct Numbered {
  explicit Numbered(int number_) : number(number_) { ++live; }
  ~Numbered() { --live; }
  int number;
  static inline std::atomic<int> live = 0;
};

template <std::size_t kBytes, std::size_t kAlignment>
struct alignas(kAlignment) Sized {
  explicit Sized(unsigned char stamp) { bytes.fill(stamp); }
  std::array<unsigned char, kBytes> bytes;
};

template <typename T>
void ExpectApart() {
  // Several regions' worth.
  constexpr std::size_t kObjects = sizeof(T) > 10000 ? 300 : 3000;
  tarn::ObjectPool<T> pool;
  std::map<std::uintptr_t, unsigned char> objects;
  for (std::size_t i = 0; i < kObjects; ++i) {
    T* object = pool.Create(static_cast<unsigned char>(i));
    const auto address = reinterpret_cast<std::uintptr_t>(object);
    ASSERT_EQ(address % alignof(T), 0u);
    ASSERT_TRUE(objects.emplace(address, static_cast<unsigned char>(i)).second);
  }
  std::uintptr_t end = 0;
  for (const auto& [address, stamp] : objects) {
    ASSERT_GE(address, end);
    end = address + sizeof(T);
    for (unsigned char byte : reinterpret_cast<T*>(address)->bytes) ASSERT_EQ(byte, stamp);
  }
  EXPECT_EQ(pool.Stats().live_objects, kObjects);
  std::size_t visited = 0;
  pool.ForEach([&](T& object) { visited += objects.count(reinterpret_cast<std::uintptr_t>(&object)); });
  EXPECT_EQ(visited, kObjects);
  for (const auto& [address, stamp] : objects) pool.Destroy(reinterpret_cast<T*>(address));
  EXPECT_EQ(pool.Stats().live_objects, 0u);
  EXPECT_EQ(pool.Stats().allocations, kObjects);
  EXPECT_EQ(pool.Stats().frees, kObjects);
}

TEST(ObjectPool, ObjectsOfAllSizesAreAlignedAndApart) {
  ExpectApart<Sized<1, 1>>();
  ExpectApart<Sized<24, 8>>();
  ExpectApart<Sized<64, 64>>();
  ExpectApart<Sized<1000, 8>>();
  ExpectApart<Sized<100, 4096>>();
  ExpectApart<Sized<30000, 16>>();
}

TEST(ObjectPool, LargeObjectsHaveRegionsOfTheirOwn) {
  tarn::ObjectPool<Sized<3000000, 16>> pool;
  auto* a = pool.Create(static_cast<unsigned char>(1));
  auto* b = pool.Create(static_cast<unsigned char>(2));
  EXPECT_EQ(a->bytes[2999999], 1);
  pool.Destroy(a);
  EXPECT_EQ(b->bytes[0], 2);
  pool.Destroy(b);
}

TEST(ObjectPool, DestructorsRunExactlyOnce) {
  {
    tarn::ObjectPool<Numbered> pool;
    std::vector<Numbered*> objects;
    for (int i = 0; i < 10000; ++i) objects.push_back(pool.Create(i));
    for (std::size_t i = 0; i < objects.size(); i += 3) pool.Destroy(objects[i]);
    EXPECT_EQ(Numbered::live, 6666);
    std::set<int> seen;
    pool.ForEach([&](Numbered& object) { EXPECT_TRUE(seen.insert(object.number).second); });
    EXPECT_EQ(seen.size(), 6666u);
    for (const int number : seen) EXPECT_NE(number % 3, 0);
    pool.DestroyAll();
    EXPECT_EQ(Numbered::live, 0);
    EXPECT_EQ(pool.Stats().live_objects, 0u);
    EXPECT_EQ(pool.Stats().region_bytes, 0u);
    for (int i = 0; i < 100; ++i) static_cast<void>(pool.Create(i));
    const auto pointer = pool.CreateUnique(5);
    EXPECT_EQ(Numbered::live, 101);
  }
  EXPECT_EQ(Numbered::live, 0);
}

TEST(ObjectPool, AConstructorThatThrowsLeavesNothingBehind) {
  struct Throws {
    explicit Throws(bool now) {
      if (now) throw 1;
    }
  };
  tarn::ObjectPool<Throws> pool;
  EXPECT_THROW(static_cast<void>(pool.Create(true)), int);
  EXPECT_EQ(pool.Stats().live_objects, 0u);
  pool.Destroy(pool.Create(false));
}

TEST(ObjectPool, EmptyRegionsGoBack) {
  tarn::ObjectPool<Sized<1000, 8>> pool;
  std::vector<Sized<1000, 8>*> objects;
  for (int i = 0; i < 10000; ++i) objects.push_back(pool.Create(static_cast<unsigned char>(i)));
  EXPECT_GE(pool.Stats().region_bytes, 10000000u);
  for (auto* object : objects) pool.Destroy(object);
  EXPECT_LE(pool.Stats().region_bytes, 1000000u);
}

TEST(ObjectPool, TheLimitHolds) {
  tarn::ObjectPool<Sized<1000, 8>> pool(tarn::ObjectPoolOptions{nullptr, 500000, false});
  int created = 0;
  EXPECT_THROW(
      while (true) {
        static_cast<void>(pool.Create(static_cast<unsigned char>(0)));
        ++created;
      },
      std::bad_alloc);
  EXPECT_GT(created, 300);
  EXPECT_LE(pool.Stats().region_bytes, 500000u);
}

TEST(ObjectPoolDeath, MisuseIsNamed) {
  tarn::ObjectPool<Sized<64, 8>> pool(tarn::ObjectPoolOptions{"checked", 0, true});
  tarn::ObjectPool<Sized<64, 8>> other(tarn::ObjectPoolOptions{nullptr, 0, true});
  auto* object = pool.Create(static_cast<unsigned char>(1));
  auto* beside = pool.Create(static_cast<unsigned char>(1));
  tarn_object_pool* c_pool = pool.c_pool();
  int local = 0;
  EXPECT_DEATH(other.Destroy(object), "tarn: fatal: tarn_object_pool_free\\(0x.*\\): object does not belong to this");
  EXPECT_DEATH(tarn_object_pool_free(c_pool, &local), "object does not belong to this pool");
  EXPECT_DEATH(tarn_object_pool_free(c_pool, &beside->bytes[5]), "no object of the pool starts here");
  tarn_object_pool_free(c_pool, object);
  EXPECT_DEATH(tarn_object_pool_free(c_pool, object), "object is already free");
  EXPECT_EXIT((tarn_object_pool_destroy(c_pool), _exit(0)), testing::ExitedWithCode(0),
              "tarn: object pool checked destroyed with 1 live objects");
  tarn::ObjectPool<Sized<64, 8>> unchecked;
  auto* twice = unchecked.Create(static_cast<unsigned char>(1));
  EXPECT_DEATH(for (int i = 0; i < 10000; ++i) tarn_object_pool_free(unchecked.c_pool(), twice),
               "object is already free");
}

#if TARN_POISON_MEMORY
TEST(ObjectPoolDeath, TheSanitizerSeesUseAfterDestroy) {
  tarn::ObjectPool<Sized<64, 8>> pool;
  auto* object = pool.Create(static_cast<unsigned char>(1));
  pool.Destroy(object);
  EXPECT_DEATH(object->bytes[0] = 2, "use-after-poison");
}
#endif

TEST(ObjectPool, ThreadsPassObjectsToEachOther) {
  struct Stamped {
    std::atomic<std::uint64_t>* slot;
    std::uint64_t check;
  };
  tarn::ObjectPool<Stamped> pool;
  constexpr int kPlaces = 64;
  std::array<std::atomic<Stamped*>, kPlaces> places = {};
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (std::uint64_t t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] {
      std::uint64_t random = t;
      for (int i = 0; i < 300000; ++i) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        Stamped* object = pool.Create();
        object->slot = nullptr;
        object->check = reinterpret_cast<std::uint64_t>(object) ^ 0x5A5A;
        Stamped* old = places[(random >> 33) % kPlaces].exchange(object);
        if (old == nullptr) continue;
        if (old->check != (reinterpret_cast<std::uint64_t>(old) ^ 0x5A5A)) ++wrong;
        old->check = 0;
        pool.Destroy(old);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  std::size_t left = 0;
  for (auto& place : places) left += place.load() != nullptr ? 1 : 0;
  EXPECT_EQ(pool.Stats().live_objects, left);
  EXPECT_EQ(pool.Stats().allocations, 1200000u);
}

TEST(BlockResource, ServesNodesAndLeavesTheRestToOthers) {
  tarn::BlockResource resource(64);
  std::pmr::map<int, int> map(&resource);
  for (int i = 0; i < 1000; ++i) map[i] = i;
  EXPECT_EQ(resource.Stats().live_objects, 1000u);
  std::pmr::vector<int> vector(1000, 1, &resource);
  EXPECT_EQ(resource.Stats().live_objects, 1000u);
}

}  // namespace
