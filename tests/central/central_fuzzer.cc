// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the central free list and the transfer cache of one size class, over a page heap and a simulated kernel that
// refuses calls. The oracle is the set of objects that are out: none is handed out twice, each is one of the class, and
// the figures agree.
#include "allocator/central/central_free_list.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <new>
#include <set>
#include <vector>

#include "allocator/central/span_objects.h"
#include "allocator/central/transfer_cache.h"
#include "allocator/pages/page_map.h"
#include "tests/fuzz/fuzzer.h"
#include "tests/pages/simulated_memory.h"

namespace tarn {
namespace {

using tarn_test::memory;

constexpr std::size_t kMostOut = 3000;

class Fuzzer {
 public:
  Fuzzer(tarn_test::Input input, PageHeap* heap, TransferCache* cache, SizeClass size_class)
      : input_(input), heap_(*heap), cache_(*cache), info_(kSizeClasses[size_class]), size_class_(size_class) {
    cache_.Init(size_class, heap);
  }

  void Run() {
    while (!input_.empty()) {
      switch (input_.Byte() % 12) {
        case 0:
        case 1:
        case 2:
        case 3:
          Take();
          break;
        case 4:
          TakeOne();
          break;
        case 5:
        case 6:
        case 7:
        case 8:
          Give(input_.OneIn(2));
          break;
        case 9:
          GiveOne();
          break;
        default:
          Other();
      }
      Check();
    }
    End();
  }

 private:
  CentralFreeList& central() { return cache_.central(); }

  void Take() {
    if (out_.size() >= kMostOut) return;
    void* objects[kMaxBatchObjects];
    const std::size_t count = 1 + input_.Below(kMaxBatchObjects);
    const bool by_cache = input_.OneIn(2);
    const std::size_t cached = cache_.cached_objects();
    const std::size_t taken = by_cache ? cache_.RemoveRange(objects, count) : central().RemoveRange(objects, count);
    FUZZ_REQUIRE(taken <= count);
    // The cache serves first, without the spans.
    if (by_cache && cached != 0) {
      FUZZ_REQUIRE(taken == std::min(cached, count));
      FUZZ_REQUIRE(cache_.cached_objects() == cached - taken);
    } else if (memory.refusals == 0) {
      FUZZ_REQUIRE(taken == count);
    }
    for (std::size_t i = 0; i < taken; ++i) Took(objects[i]);
  }

  void TakeOne() {
    void* const object = central().RemoveOne();
    FUZZ_REQUIRE(object != nullptr || memory.refusals != 0);
    if (object != nullptr) Took(object);
  }

  void Took(void* object) {
    FUZZ_REQUIRE(out_.insert(object).second);
    const auto address = reinterpret_cast<std::uintptr_t>(object);
    Span* const span = page_map.SpanOf(PageId::Containing(address));
    FUZZ_REQUIRE(span != nullptr && span->size_class == size_class_ && page_map.ClassOf(address) == size_class_);
    const std::size_t offset_bytes = address - span->start_address();
    FUZZ_REQUIRE(offset_bytes % info_.size_bytes == 0 && offset_bytes + info_.size_bytes <= span->bytes());
    FUZZ_REQUIRE(FindObject(span, address) == static_cast<int>(offset_bytes / info_.size_bytes));
    FUZZ_REQUIRE(!IsFree(span, offset_bytes / info_.size_bytes));
  }

  // From some place in the order of addresses on.
  std::vector<void*> Choose(std::size_t count) {
    std::vector<void*> chosen;
    const std::size_t skip = out_.empty() ? 0 : input_.Below(out_.size());
    const std::size_t step = 1 + input_.Below(4);
    auto at = std::next(out_.begin(), static_cast<std::ptrdiff_t>(skip));
    while (chosen.size() < count && at != out_.end()) {
      chosen.push_back(*at);
      at = out_.erase(at);
      for (std::size_t i = 1; i < step && at != out_.end(); ++i) ++at;
    }
    return chosen;
  }

  void Give(bool to_cache) {
    const std::vector<void*> chosen = Choose(1 + input_.Below(kMaxBatchObjects));
    if (chosen.empty()) return;
    to_cache ? cache_.InsertRange(chosen.data(), chosen.size(), "free")
             : central().InsertRange(chosen.data(), chosen.size(), "free");
  }

  void GiveOne() {
    for (void* object : Choose(1)) central().InsertOne(object, "free");
  }

  void Other() {
    switch (input_.Byte() % 6) {
      case 0:
        memory.refusals = input_.OneIn(2) ? 0 : 1 + input_.Below(8);
        break;
      case 1: {
        const std::size_t cached = cache_.cached_objects();
        FUZZ_REQUIRE(cache_.Drain("malloc_trim") == cached * info_.size_bytes);
        FUZZ_REQUIRE(cache_.cached_objects() == 0 && central().kept_spans() == 0);
        break;
      }
      case 2:
        central().ReleaseKept();
        FUZZ_REQUIRE(central().kept_spans() == 0);
        break;
      case 3:
        heap_.SetFalling(input_.OneIn(2));
        break;
      case 4:
        static_cast<void>(heap_.ReleaseFree(input_.Number(3), false));
        break;
      default:
        memory.now_ms += 1 + static_cast<std::uint32_t>(input_.Number(2));
    }
  }

  void Check() {
    const CentralFreeListStats stats = central().Stats();
    FUZZ_REQUIRE(stats.live_objects == out_.size() + cache_.cached_objects());
    FUZZ_REQUIRE(stats.free_objects == stats.spans * info_.objects_per_span - stats.live_objects);
    FUZZ_REQUIRE(central().kept_spans() <= stats.spans);
    FUZZ_REQUIRE(cache_.cached_objects() * info_.size_bytes <= std::size_t{64} << 10);
    if (++checks_ % 8 == 0) central().CheckInvariants();
  }

  // All memory goes back.
  void End() {
    memory.refusals = 0;
    while (!out_.empty()) Give(false);
    cache_.Drain("malloc_trim");
    FUZZ_REQUIRE(central().Stats().spans == 0 && central().Stats().live_objects == 0);
    FUZZ_REQUIRE(heap_.Stats().in_use_bytes == 0);
    heap_.CheckInvariants();
  }

  tarn_test::Input input_;
  PageHeap& heap_;
  TransferCache& cache_;
  const SizeClassInfo& info_;
  const SizeClass size_class_;
  std::set<void*> out_;
  std::size_t checks_ = 0;
};

}  // namespace
}  // namespace tarn

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn_test::Input input(data, size);
  tarn_test::memory.ForgetAll(input.Byte());
  alignas(tarn::PageHeap) static unsigned char heap_place[sizeof(tarn::PageHeap)];
  auto* const heap = ::new (heap_place) tarn::PageHeap;
  const auto cache = std::make_unique<tarn::TransferCache>();
  const auto size_class = static_cast<tarn::SizeClass>(1 + input.Below(tarn::kSizeClassCount - 1));
  tarn::Fuzzer(input, heap, cache.get(), size_class).Run();
  return 0;
}
