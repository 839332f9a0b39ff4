// SPDX-License-Identifier: Apache-2.0
//
// The end of all objects of a pool whose destructors use the pool: each object is ended once.
#include <gtest/gtest.h>
#include <tarn/object_pool.h>

#include <deque>
#include <string>
#include <utility>

namespace {

// Counts its ends in a place that outlives it.
class EndCount {
 public:
  explicit EndCount(int* ends) : ends_(ends) {}
  ~EndCount() { ++*ends_; }

 private:
  int* ends_;
};

struct Node {
  explicit Node(int* ends) : counted(ends) {}
  EndCount counted;
  tarn::ObjectPool<Node>::Pointer child{nullptr, {nullptr}};
  std::string text{"long enough to be on the heap, really"};
};

// Chains of nodes that own the next one, with owners at lower addresses than what they own, and at higher ones.
void MakeChains(tarn::ObjectPool<Node>* pool, std::deque<int>* ends) {
  constexpr int kLength = 21;
  for (int chain = 0; chain < 100; ++chain) {
    Node* const first = pool->Create(&ends->emplace_back(0));
    Node* owner = first;
    for (int i = 1; i < kLength; ++i) {
      owner->child = pool->CreateUnique(&ends->emplace_back(0));
      owner = owner->child.get();
    }
    auto owned = pool->CreateUnique(&ends->emplace_back(0));
    for (int i = 1; i < kLength; ++i) {
      auto next_owner = pool->CreateUnique(&ends->emplace_back(0));
      next_owner->child = std::move(owned);
      owned = std::move(next_owner);
    }
    Node* const last = owned.release();
    // Holes among them, which a destructor's object could be made in.
    if (chain % 10 == 0) {
      pool->Destroy(first);
      pool->Destroy(last);
    }
  }
}

TEST(ObjectPoolEnd, ObjectsThatOwnOthersAreEndedOnce) {
  for (const bool destroy_all : {true, false}) {
    for (const bool checked : {false, true}) {
      std::deque<int> ends;
      {
        tarn::ObjectPool<Node> pool(tarn::ObjectPoolOptions{nullptr, 0, checked});
        MakeChains(&pool, &ends);
        if (destroy_all) {
          pool.DestroyAll();
          for (const int each : ends) ASSERT_EQ(each, 1);
          EXPECT_EQ(pool.Stats().live_objects, 0u);
          EXPECT_EQ(pool.Stats().region_bytes, 0u);
          EXPECT_EQ(pool.Stats().allocations, pool.Stats().frees);
          // And it goes on.
          MakeChains(&pool, &ends);
        }
      }
      for (const int each : ends) ASSERT_EQ(each, 1);
    }
  }
}

// At its end it makes objects of its own kind, one generation younger: some that it destroys, and some that it leaves.
struct Parent {
  Parent(tarn::ObjectPool<Parent>* pool_, std::deque<int>* ends_, int generation_)
      : pool(pool_), ends(ends_), generation(generation_), counted(&ends_->emplace_back(0)), self(this) {}
  ~Parent() {
    EXPECT_EQ(self, this) << "its memory has another object already";
    if (generation == 0) return;
    for (int i = 0; i < 3; ++i) static_cast<void>(pool->Create(pool, ends, generation - 1));
    for (int i = 0; i < 3; ++i) pool->Destroy(pool->Create(pool, ends, generation - 1));
    EXPECT_EQ(self, this) << "its memory has another object already";
    self = nullptr;
  }
  tarn::ObjectPool<Parent>* pool;
  std::deque<int>* ends;
  int generation;
  EndCount counted;
  Parent* self;
};

TEST(ObjectPoolEnd, DestructorsMayCreateAndDestroy) {
  for (const bool destroy_all : {true, false}) {
    for (const bool checked : {false, true}) {
      std::deque<int> ends;
      {
        tarn::ObjectPool<Parent> pool(tarn::ObjectPoolOptions{nullptr, 0, checked});
        for (int i = 0; i < 200; ++i) static_cast<void>(pool.Create(&pool, &ends, i % 3));
        if (destroy_all) {
          pool.DestroyAll();
          EXPECT_EQ(pool.Stats().live_objects, 0u);
          EXPECT_EQ(pool.Stats().region_bytes, 0u);
        }
      }
      EXPECT_GT(ends.size(), 1000u);
      for (const int each : ends) ASSERT_EQ(each, 1);
    }
  }
}

// Each one destroys another that it does not own in the order of addresses.
TEST(ObjectPoolEnd, DestructorsMayDestroyWhatComesBeforeAndBehind) {
  struct Peer {
    explicit Peer(int* ends) : counted(ends) {}
    ~Peer() {
      if (peer != nullptr) pool->Destroy(std::exchange(peer, nullptr));
    }
    EndCount counted;
    tarn::ObjectPool<Peer>* pool = nullptr;
    Peer* peer = nullptr;
  };
  std::deque<int> ends;
  {
    tarn::ObjectPool<Peer> pool;
    std::deque<Peer*> peers;
    for (int i = 0; i < 5000; ++i) peers.push_back(pool.Create(&ends.emplace_back(0)));
    // 7 and 5000 have no common divisor: one ring through all.
    for (std::size_t i = 0; i < peers.size(); ++i) {
      peers[i]->pool = &pool;
      peers[i]->peer = peers[(i + 7) % peers.size()];
    }
  }
  for (const int each : ends) ASSERT_EQ(each, 1);
}

}  // namespace
