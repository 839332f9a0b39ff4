// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes private heaps, pools of blocks and pools of objects, each against a list of what is out: objects lie apart,
// keep their contents, and none is handed out twice; the figures agree.
#include <tarn/fixed_pool.h>
#include <tarn/heap.h>
#include <tarn/pool.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

#include "tests/fuzz/fuzzer.h"

namespace {

struct Object {
  unsigned char* start;
  std::size_t bytes;
  std::uint8_t seed;

  void Write() const { std::memset(start, seed, bytes); }
  void Require(std::size_t kept_bytes) const {
    for (std::size_t i = 0; i < kept_bytes; ++i) FUZZ_REQUIRE(start[i] == seed);
  }
};

void RequireApart(const std::vector<Object>& objects, const Object& object) {
  for (const Object& other : objects) {
    FUZZ_REQUIRE(object.start + object.bytes <= other.start || other.start + other.bytes <= object.start);
  }
}

class HeapFuzzer {
 public:
  explicit HeapFuzzer(tarn_test::Input* input) : input_(*input) {
    const std::size_t limit = input_.OneIn(3) ? (std::size_t{1} << 17) + input_.Number(2) * 128 : 0;
    limit_bytes_ = limit;
    const tarn_heap_options options = {nullptr, limit, input_.OneIn(3) ? 1 : 0};
    heap_ = tarn_heap_create(&options);
    FUZZ_REQUIRE(heap_ != nullptr);
  }
  ~HeapFuzzer() {
    for (const Object& object : objects_) object.Require(object.bytes);
    tarn_heap_free_all(heap_);
    FUZZ_REQUIRE(tarn_heap_get_stats(heap_).live_objects == 0);
    tarn_heap_destroy(heap_);
  }

  void Step() {
    const std::uint8_t pick = input_.Byte();
    if (pick < 110) {
      Allocate();
    } else if (pick < 170) {
      Resize();
    } else if (pick < 250) {
      Free();
    } else {
      tarn_heap_free_all(heap_);
      objects_.clear();
    }
    const tarn_heap_stats stats = tarn_heap_get_stats(heap_);
    FUZZ_REQUIRE(stats.live_objects == objects_.size());
    FUZZ_REQUIRE(limit_bytes_ == 0 || stats.span_bytes <= limit_bytes_);
  }

 private:
  std::size_t Size() {
    const std::uint8_t kind = input_.Byte();
    if (kind < 160) return kind;
    if (kind < 240) return input_.Number(2) % 4096;
    if (kind < 254) return input_.Number(3) % 600'000;
    return SIZE_MAX - input_.Number(2);
  }

  void Took(void* memory, std::size_t bytes, std::size_t alignment) {
    const Object object = {static_cast<unsigned char*>(memory), bytes, ++seed_};
    FUZZ_REQUIRE(reinterpret_cast<std::uintptr_t>(memory) % alignment == 0);
    FUZZ_REQUIRE(tarn_heap_usable_bytes(heap_, memory) >= bytes);
    RequireApart(objects_, object);
    object.Write();
    objects_.push_back(object);
  }

  void Allocate() {
    if (objects_.size() >= 100) return;
    const std::size_t bytes = Size();
    const std::size_t alignment = input_.OneIn(4) ? std::size_t{1} << input_.Below(14) : 0;
    void* const memory = tarn_heap_allocate(heap_, bytes, alignment);
    if (memory == nullptr) {
      FUZZ_REQUIRE(limit_bytes_ != 0 || bytes > PTRDIFF_MAX);
      return;
    }
    Took(memory, bytes, std::max<std::size_t>(alignment, 16));
  }

  void Resize() {
    if (objects_.empty()) return;
    const std::size_t index = input_.Below(objects_.size());
    const Object object = objects_[index];
    if (object.bytes == 0) return;
    const std::size_t bytes = 1 + Size() % 700'000;
    void* const memory = tarn_heap_reallocate(heap_, object.start, bytes);
    if (memory == nullptr) {
      FUZZ_REQUIRE(limit_bytes_ != 0);
      return object.Require(object.bytes);
    }
    Object moved = object;
    moved.start = static_cast<unsigned char*>(memory);
    moved.Require(std::min(bytes, object.bytes));
    objects_.erase(objects_.begin() + static_cast<std::ptrdiff_t>(index));
    Took(memory, bytes, 16);
  }

  void Free() {
    if (objects_.empty()) return;
    const std::size_t index = input_.Below(objects_.size());
    objects_[index].Require(objects_[index].bytes);
    tarn_heap_free(heap_, objects_[index].start);
    objects_.erase(objects_.begin() + static_cast<std::ptrdiff_t>(index));
  }

  tarn_test::Input& input_;
  tarn_heap* heap_;
  std::size_t limit_bytes_ = 0;
  std::vector<Object> objects_;
  std::uint8_t seed_ = 0;
};

class BlockFuzzer {
 public:
  explicit BlockFuzzer(tarn_test::Input* input) : input_(*input) {
    bytes_ = 1 + input_.Below(700);
    count_ = 1 + input_.Below(130);
    alignment_ = input_.OneIn(3) ? std::size_t{1} << input_.Below(13) : 0;
    const tarn_fixed_pool_options options = {bytes_, count_, alignment_, nullptr, 0};
    pool_ = tarn_fixed_pool_create(&options);
    FUZZ_REQUIRE(pool_ != nullptr);
  }
  ~BlockFuzzer() { tarn_fixed_pool_destroy(pool_); }

  void Step() {
    if (input_.OneIn(2)) {
      auto* const block = static_cast<unsigned char*>(tarn_fixed_pool_allocate(pool_));
      FUZZ_REQUIRE((block == nullptr) == (blocks_.size() == count_));
      if (block == nullptr) return;
      const std::size_t alignment = alignment_ != 0 ? alignment_ : bytes_ <= 8 ? 8 : 16;
      FUZZ_REQUIRE(reinterpret_cast<std::uintptr_t>(block) % alignment == 0);
      const Object object = {block, bytes_, ++seed_};
      RequireApart(blocks_, object);
      FUZZ_REQUIRE(tarn_fixed_pool_owns(pool_, block) && tarn_fixed_pool_owns(pool_, block + bytes_ - 1));
      object.Write();
      blocks_.push_back(object);
    } else if (!blocks_.empty()) {
      const std::size_t index = input_.Below(blocks_.size());
      blocks_[index].Require(bytes_);
      tarn_fixed_pool_free(pool_, blocks_[index].start);
      blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(index));
    }
    const tarn_fixed_pool_stats stats = tarn_fixed_pool_get_stats(pool_);
    FUZZ_REQUIRE(stats.total == count_ && stats.allocated == blocks_.size() && stats.free == count_ - blocks_.size());
    FUZZ_REQUIRE(!tarn_fixed_pool_owns(pool_, &stats));
  }

 private:
  tarn_test::Input& input_;
  tarn_fixed_pool* pool_;
  std::size_t bytes_;
  std::size_t count_;
  std::size_t alignment_;
  std::vector<Object> blocks_;
  std::uint8_t seed_ = 0;
};

// Each object is out, in the pool, or was dropped once.
class ObjectFuzzer {
 public:
  explicit ObjectFuzzer(tarn_test::Input* input) : input_(*input) {
    most_ = 1 + input_.Below(40);
    const tarn_pool_options options = {&Drop, this, nullptr, most_, TARN_POOL_NO_EPOCHS, input_.OneIn(2) ? 1 : 0};
    pool_ = tarn_pool_create(&options);
    FUZZ_REQUIRE(pool_ != nullptr);
  }
  ~ObjectFuzzer() {
    tarn_pool_destroy(pool_);
    FUZZ_REQUIRE(inside_.empty());
    for (int* object : outside_) delete object;
  }

  void Step() {
    const std::uint8_t pick = input_.Byte();
    if (pick < 110) {
      auto* object = static_cast<int*>(tarn_pool_get(pool_));
      if (object == nullptr) {
        object = new int;
      } else {
        FUZZ_REQUIRE(inside_.erase(object) == 1);
      }
      outside_.push_back(object);
    } else if (pick < 240) {
      if (outside_.empty()) return;
      int* const object = outside_[input_.Below(outside_.size())];
      std::erase(outside_, object);
      inside_.insert(object);
      pick < 232 ? tarn_pool_put(pool_, object) : tarn_pool_refuse(pool_, object);
      if (pick >= 232) FUZZ_REQUIRE(inside_.count(object) == 0);
    } else {
      tarn_pool_tick(pool_);
    }
    const tarn_pool_stats stats = tarn_pool_get_stats(pool_);
    FUZZ_REQUIRE(stats.cached_objects == inside_.size());
    FUZZ_REQUIRE(stats.drops == dropped_);
  }

 private:
  static void Drop(void* object, void* context) {
    auto* const fuzzer = static_cast<ObjectFuzzer*>(context);
    FUZZ_REQUIRE(fuzzer->inside_.erase(static_cast<int*>(object)) == 1);
    ++fuzzer->dropped_;
    delete static_cast<int*>(object);
  }

  tarn_test::Input& input_;
  tarn_pool* pool_;
  std::size_t most_;
  std::set<int*> inside_;
  std::vector<int*> outside_;
  std::uint64_t dropped_ = 0;
};

template <typename Fuzzer>
void Run(tarn_test::Input input) {
  Fuzzer fuzzer(&input);
  while (!input.empty()) fuzzer.Step();
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn_test::Input input(data, size);
  switch (input.Byte() % 3) {
    case 0:
      Run<HeapFuzzer>(input);
      break;
    case 1:
      Run<BlockFuzzer>(input);
      break;
    default:
      Run<ObjectFuzzer>(input);
  }
  return 0;
}
