// SPDX-License-Identifier: Apache-2.0
//
// Allocates, changes and frees objects at random and verifies the contents of each. A wrong byte or
// a null ends the process with a line on stderr.

#ifndef TARN_TESTS_LIFE_CHURN_H_
#define TARN_TESTS_LIFE_CHURN_H_

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "tests/entry/surface.h"
#include "tests/life/process.h"

namespace tarn_test {

class Churn {
 public:
  // `most_bytes` bounds the size of one object.
  explicit Churn(uint64_t seed, size_t most_bytes = 100 * kKiB) : random_(seed), most_bytes_(most_bytes) {}
  Churn(const Churn&) = delete;
  Churn& operator=(const Churn&) = delete;

  ~Churn() {
    for (Slot& slot : slots_) Drop(slot);
  }

  void Step() {
    Slot& slot = slots_[random_.Below(kSlots)];
    if (slot.object == nullptr) {
      slot.size = random_.Size(most_bytes_);
      slot.seed = random_.Next();
      Allocate(slot);
      TARN_LIFE_REQUIRE(slot.object != nullptr);
      Fill(slot.object, slot.seed, 0, slot.size);
      return;
    }
    if (random_.Below(8) != 0) {
      Drop(slot);
      return;
    }
    const size_t size = random_.Size(most_bytes_);
    const size_t kept = size < slot.size ? size : slot.size;
    slot.object = realloc(slot.object, size);
    TARN_LIFE_REQUIRE(slot.object != nullptr);
    TARN_LIFE_REQUIRE(Holds(slot.object, slot.seed, 0, kept));
    slot.size = size;
    Fill(slot.object, slot.seed, kept, size);
  }

  void Steps(size_t count) {
    for (size_t i = 0; i < count; ++i) Step();
  }

  void Verify() const {
    for (const Slot& slot : slots_) {
      TARN_LIFE_REQUIRE(slot.object == nullptr || Holds(slot.object, slot.seed, 0, slot.size));
    }
  }

 private:
  static constexpr size_t kSlots = 128;

  struct Slot {
    void* object = nullptr;
    size_t size = 0;
    uint64_t seed = 0;
  };

  void Allocate(Slot& slot) {
    const size_t way = random_.Below(8);
    if (way == 0) {
      slot.object = calloc(1, slot.size);
      TARN_LIFE_REQUIRE(slot.object == nullptr || IsZero(slot.object, slot.size));
    } else if (way == 1) {
      slot.object = memalign(size_t{32} << random_.Below(6), slot.size);
    } else {
      slot.object = malloc(slot.size);
    }
  }

  void Drop(Slot& slot) {
    if (slot.object == nullptr) return;
    TARN_LIFE_REQUIRE(Holds(slot.object, slot.seed, 0, slot.size));
    free(slot.object);
    slot.object = nullptr;
  }

  Random random_;
  const size_t most_bytes_;
  Slot slots_[kSlots];
};

// Threads that churn until the object goes.
class ChurnThreads {
 public:
  explicit ChurnThreads(size_t count, size_t most_bytes = 100 * kKiB) {
    for (size_t i = 0; i < count; ++i) {
      threads_.emplace_back([this, i, most_bytes] {
        const std::unique_ptr<Churn> churn = std::make_unique<Churn>(i + 1, most_bytes);
        while (!stop_.load(std::memory_order_relaxed)) churn->Step();
      });
    }
  }
  ChurnThreads(const ChurnThreads&) = delete;
  ChurnThreads& operator=(const ChurnThreads&) = delete;

  ~ChurnThreads() {
    stop_.store(true);
    for (std::thread& thread : threads_) thread.join();
  }

  std::vector<std::thread>& threads() { return threads_; }

 private:
  std::atomic<bool> stop_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tarn_test

#endif  // TARN_TESTS_LIFE_CHURN_H_
