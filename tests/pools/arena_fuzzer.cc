// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes arenas. The oracle is a list of what the arena has handed out: objects lie apart, aligned, and keep their
// contents until a reset, a rewind or a release ends them; functions that were registered run once, the last first.
#include <tarn/arena.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "tests/fuzz/fuzzer.h"

namespace {

struct Object {
  unsigned char* start;
  std::size_t bytes;
  std::uint8_t seed;
};

struct Mark {
  tarn_arena_mark mark;
  std::size_t objects;
  std::size_t cleanups;
};

class Fuzzer {
 public:
  explicit Fuzzer(tarn_test::Input input) : input_(input) {
    tarn_arena_options options = {};
    if (input_.OneIn(3)) options.limit_bytes = limit_bytes_ = 8192 + input_.Number(2) * 64;
    if (input_.OneIn(3)) {
      options.buffer = buffer_;
      options.buffer_bytes = input_.Below(sizeof(buffer_) + 1);
    }
    options.checked = input_.OneIn(4) ? 1 : 0;
    tarn_arena_init(&arena_, &options);
  }

  void Run() {
    while (!input_.empty()) Step();
    CheckAll();
    tarn_arena_destroy(&arena_);
    FUZZ_REQUIRE(cleanups_.empty());
  }

 private:
  void Step() {
    const std::uint8_t pick = input_.Byte();
    if (pick < 190) {
      Allocate();
    } else if (pick < 210) {
      AddCleanup();
    } else if (pick < 226) {
      marks_.push_back({tarn_arena_get_mark(&arena_), objects_.size(), cleanups_.size()});
    } else if (pick < 246) {
      Rewind();
    } else {
      CheckAll();
      pick < 254 ? tarn_arena_reset(&arena_) : tarn_arena_release(&arena_);
      FUZZ_REQUIRE(cleanups_.empty());
      objects_.clear();
      marks_.clear();
    }
    const tarn_arena_stats stats = tarn_arena_get_stats(&arena_);
    FUZZ_REQUIRE(stats.limit_bytes == limit_bytes_);
    FUZZ_REQUIRE(limit_bytes_ == 0 || stats.capacity_bytes <= limit_bytes_);
    std::size_t live_bytes = 0;
    for (const Object& object : objects_) live_bytes += object.bytes;
    FUZZ_REQUIRE(stats.used_bytes >= live_bytes);
  }

  void Allocate() {
    const std::uint8_t kind = input_.Byte();
    std::size_t bytes = kind < 200 ? kind : input_.Number(2);
    if (kind == 255) bytes = SIZE_MAX - input_.Number(2);
    if (kind == 254) bytes = input_.Number(3);
    const std::size_t alignment = std::size_t{1} << input_.Below(14);
    auto* const start = static_cast<unsigned char*>(tarn_arena_allocate(&arena_, bytes, alignment));
    if (start == nullptr) {
      FUZZ_REQUIRE(limit_bytes_ != 0 || bytes > PTRDIFF_MAX);
      return;
    }
    FUZZ_REQUIRE(bytes <= PTRDIFF_MAX);
    FUZZ_REQUIRE(reinterpret_cast<std::uintptr_t>(start) % alignment == 0);
    for (const Object& other : objects_) {
      FUZZ_REQUIRE(bytes == 0 || start + bytes <= other.start || other.start + other.bytes <= start);
    }
    const Object object = {start, bytes, static_cast<std::uint8_t>(++seeds_)};
    std::memset(start, object.seed, bytes);
    if (bytes != 0) objects_.push_back(object);
  }

  // The object names the fuzzer's list, and its place in it.
  struct Cleanup {
    Fuzzer* fuzzer;
    std::size_t number;
  };
  static void RunCleanup(void* object) {
    auto* const cleanup = static_cast<Cleanup*>(object);
    Fuzzer* const fuzzer = cleanup->fuzzer;
    FUZZ_REQUIRE(!fuzzer->cleanups_.empty() && fuzzer->cleanups_.back() == cleanup);
    FUZZ_REQUIRE(cleanup->number == fuzzer->cleanups_.size() - 1);
    fuzzer->cleanups_.pop_back();
    delete cleanup;
  }
  void AddCleanup() {
    auto* const cleanup = new Cleanup{this, cleanups_.size()};
    if (tarn_arena_add_cleanup(&arena_, &RunCleanup, cleanup) == 0) {
      FUZZ_REQUIRE(limit_bytes_ != 0);
      delete cleanup;
      return;
    }
    cleanups_.push_back(cleanup);
  }

  void Rewind() {
    if (marks_.empty()) return;
    const std::size_t index = input_.Below(marks_.size());
    const Mark mark = marks_[index];
    CheckAll();
    tarn_arena_rewind(&arena_, &mark.mark);
    FUZZ_REQUIRE(cleanups_.size() == mark.cleanups);
    objects_.resize(mark.objects);
    // Those behind it are stale.
    marks_.resize(index + 1);
    CheckAll();
  }

  void CheckAll() {
    for (const Object& object : objects_) {
      for (std::size_t i = 0; i < object.bytes; ++i) FUZZ_REQUIRE(object.start[i] == object.seed);
    }
  }

  tarn_test::Input input_;
  tarn_arena arena_;
  alignas(16) unsigned char buffer_[600];
  std::size_t limit_bytes_ = 0;
  std::vector<Object> objects_;
  std::vector<Mark> marks_;
  std::vector<Cleanup*> cleanups_;
  unsigned seeds_ = 0;
};

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Fuzzer(tarn_test::Input(data, size)).Run();
  return 0;
}
