// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the places of guarded objects. The oracle knows which places are live and in which order the others were
// freed: an object lies apart from the others, aligned, between pages without access, and keeps its contents; the place
// that was freed first is taken first.
#include "allocator/misuse/guarded_objects.h"

#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <vector>

#include "allocator/os/thread_state.h"
#include "allocator/os/virtual_memory.h"
#include "tests/fuzz/fuzzer.h"

namespace tarn {
namespace {

constexpr std::uint32_t kPlaces = 12;

// One for all inputs: its addresses stay reserved.
GuardedObjects& Guards() {
  static PageHeap heap;
  static GuardedObjects guards;
  static bool ready = false;
  if (!ready) guards.Init(&heap, kPlaces, 1, false);
  ready = true;
  return guards;
}

// True if the process may read the byte.
bool IsReadable(const char* address) {
  char byte;
  const iovec to = {&byte, 1};
  const iovec from = {const_cast<char*>(address), 1};
  return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

struct Live {
  GuardedPlace* place;
  char* start;
  std::size_t bytes;
  std::uint8_t seed;
};

class Fuzzer {
 public:
  explicit Fuzzer(tarn_test::Input input) : input_(input) {}

  void Run() {
    while (!input_.empty()) {
      const std::uint8_t pick = input_.Byte();
      if (pick < 130) {
        Allocate();
      } else if (pick < 220) {
        Free();
      } else {
        Look();
      }
      Check();
    }
    while (!live_.empty()) Free();
    Check();
  }

 private:
  void Allocate() {
    const std::size_t bytes =
        input_.OneIn(8) ? input_.Number(8) : input_.Below(GuardedObjects::kPlaceBytes + OsPageBytes());
    const std::size_t alignment = std::size_t{1} << input_.Below(14);
    const auto size_class = static_cast<SizeClass>(1 + input_.Below(kSizeClassCount - 1));
    SlowPathScope scope;
    GuardedPlace* const place = Guards().Allocate(size_class, bytes, alignment);
    if (place == nullptr) {
      FUZZ_REQUIRE(live_.size() == kPlaces || bytes > GuardedObjects::kPlaceBytes - alignment);
      return;
    }
    FUZZ_REQUIRE(bytes <= GuardedObjects::kPlaceBytes && live_.size() < kPlaces);
    auto* const start = static_cast<char*>(place->object());
    const Live object = {place, start, bytes, static_cast<std::uint8_t>(input_.Byte() | 1)};
    FUZZ_REQUIRE(reinterpret_cast<std::uintptr_t>(start) % alignment == 0);
    for (const Live& other : live_) {
      FUZZ_REQUIRE(other.place != place);
      FUZZ_REQUIRE(start + bytes + GuardedObjects::kGuardBytes <= other.start ||
                   other.start + other.bytes + GuardedObjects::kGuardBytes <= start);
    }
    // The place that was freed first, where all have been used.
    const auto held = std::find(held_.begin(), held_.end(), place);
    FUZZ_REQUIRE(held == held_.end() || held == held_.begin());
    if (held != held_.end()) held_.erase(held);
    std::memset(start, object.seed, bytes);
    live_.push_back(object);
  }

  void Free() {
    if (live_.empty()) return;
    const std::size_t index = input_.Below(live_.size());
    const Live object = live_[index];
    live_.erase(live_.begin() + static_cast<std::ptrdiff_t>(index));
    RequireContents(object);
    FUZZ_REQUIRE(Guards().Resolve(object.start, "free") == object.place);
    SlowPathScope scope;
    FUZZ_REQUIRE(Guards().Free(object.place, "free") == 0);
    held_.push_back(object.place);
    FUZZ_REQUIRE(object.bytes == 0 || !IsReadable(object.start));
  }

  // At the pages around an object.
  void Look() {
    if (live_.empty()) return;
    const Live& object = live_[input_.Below(live_.size())];
    RequireContents(object);
    const std::size_t page_bytes = OsPageBytes();
    const auto first = reinterpret_cast<std::uintptr_t>(object.start) / page_bytes * page_bytes;
    const auto end =
        RoundUp(reinterpret_cast<std::uintptr_t>(object.start) + std::max<std::size_t>(object.bytes, 1), page_bytes);
    FUZZ_REQUIRE(!IsReadable(reinterpret_cast<const char*>(end)));
    const bool begins_place = (first - page_bytes) % page_bytes == 0 && IsReadable(reinterpret_cast<char*>(first));
    FUZZ_REQUIRE(begins_place);
  }

  static void RequireContents(const Live& object) {
    for (std::size_t i = 0; i < object.bytes; ++i) {
      FUZZ_REQUIRE(static_cast<std::uint8_t>(object.start[i]) == object.seed);
    }
  }

  void Check() {
    const tarn_snapshot_guards& figures = *Guards().published();
    FUZZ_REQUIRE(figures.live_objects == live_.size());
    FUZZ_REQUIRE(figures.held_objects == held_.size());
    FUZZ_REQUIRE(figures.reports == 0);
  }

  tarn_test::Input input_;
  std::vector<Live> live_;
  // In the order of their frees; what inputs before have left comes first.
  static inline std::deque<GuardedPlace*> held_;
};

}  // namespace
}  // namespace tarn

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn::Fuzzer(tarn_test::Input(data, size)).Run();
  return 0;
}
