// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the packing of pages into huge pages. The oracle is a list of free pages for each huge page, searched as a
// whole: each place is where it should be, and a huge page is found if there is one.
#include "allocator/pages/packing.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "tests/fuzz/fuzzer.h"
#include "tests/pages/page_parts.h"

namespace tarn {
namespace {

// No more than a search for warm runs looks at, so its answer is exact.
constexpr std::size_t kHugePages = 12;

enum class Page : std::uint8_t { kUsed, kWarm, kZero };

struct Run {
  std::size_t first = 0;
  std::size_t count = 0;
};

struct Model {
  Page pages[kPagesPerHugePage];
  bool listed = false;

  Model() { std::fill(pages, pages + kPagesPerHugePage, Page::kZero); }
  bool IsFree(std::size_t page, bool warm_only) const {
    return warm_only ? pages[page] == Page::kWarm : pages[page] != Page::kUsed;
  }
  Run NextRun(std::size_t from, bool warm_only) const {
    while (from < kPagesPerHugePage && !IsFree(from, warm_only)) ++from;
    std::size_t end = from;
    while (end < kPagesPerHugePage && IsFree(end, warm_only)) ++end;
    return {from, end - from};
  }
  std::size_t LongestRun(bool warm_only) const {
    std::size_t longest = 0;
    for (Run run = NextRun(0, warm_only); run.count != 0; run = NextRun(run.first + run.count, warm_only)) {
      longest = std::max(longest, run.count);
    }
    return longest;
  }
  // The length of the shortest run with an aligned place; 0: none.
  std::size_t ShortestFit(std::size_t count, std::size_t alignment, bool warm_only) const {
    std::size_t best = 0;
    for (Run run = NextRun(0, warm_only); run.count != 0; run = NextRun(run.first + run.count, warm_only)) {
      const bool fits = RoundUp(run.first, alignment) + count <= run.first + run.count;
      if (fits && (best == 0 || run.count < best)) best = run.count;
    }
    return best;
  }
  // The length of the run that the page is in.
  std::size_t RunAround(std::size_t page, bool warm_only) const {
    std::size_t first = page;
    while (first != 0 && IsFree(first - 1, warm_only)) --first;
    return NextRun(first, warm_only).count;
  }
};

class Fuzzer {
 public:
  explicit Fuzzer(tarn_test::Input input) : input_(input) {}

  void Run() {
    while (!input_.empty()) {
      switch (input_.Byte() % 4) {
        case 0:
          Take(false);
          break;
        case 1:
          Take(true);
          break;
        case 2:
          Free();
          break;
        default:
          Relist();
      }
      Check();
    }
  }

 private:
  void Take(bool warm) {
    const std::size_t count = 1 + input_.Below(kPagesPerHugePage);
    const std::size_t alignment = std::size_t{1} << input_.Below(6);
    std::size_t tightest = 0;
    bool any_warm = false;
    for (const Model& model : models_) {
      if (!model.listed) continue;
      const std::size_t longest = model.LongestRun(false);
      if (longest >= count && (tightest == 0 || longest < tightest)) tightest = longest;
      any_warm |= model.LongestRun(true) >= count;
    }
    HugePage* const taken = warm ? packing_.TryTakeWarm(count) : packing_.TryTake(count);
    FUZZ_REQUIRE((taken != nullptr) == (warm ? any_warm : tightest != 0));
    if (taken == nullptr) return;
    const std::size_t index = static_cast<std::size_t>(taken - pages_[0]);
    Model& model = models_[index];
    FUZZ_REQUIRE(index < kHugePages && model.listed);
    FUZZ_REQUIRE(warm ? model.LongestRun(true) >= count : model.LongestRun(false) == tightest);
    Place(taken, &model, count, model.ShortestFit(count, alignment, false) != 0 ? alignment : 1);
    packing_.List(taken);
    model.listed = model.LongestRun(false) != 0;
  }

  static void Place(HugePage* huge_page, Model* model, std::size_t count, std::size_t alignment) {
    const std::size_t first = huge_page->FindFree(count, alignment);
    FUZZ_REQUIRE(first % alignment == 0 && first + count <= kPagesPerHugePage);
    const std::size_t warm_fit = model->ShortestFit(count, alignment, true);
    const std::size_t fit = warm_fit != 0 ? warm_fit : model->ShortestFit(count, alignment, false);
    FUZZ_REQUIRE(model->RunAround(first, warm_fit != 0) == fit);
    std::size_t zero = 0;
    for (std::size_t i = first; i < first + count; ++i) {
      FUZZ_REQUIRE(model->pages[i] != Page::kUsed);
      zero += model->pages[i] == Page::kZero ? 1 : 0;
      model->pages[i] = Page::kUsed;
    }
    FUZZ_REQUIRE(huge_page->MarkUsed(first, count) == zero);
  }

  void Free() {
    const std::size_t index = input_.Below(kHugePages);
    const std::size_t first = input_.Below(kPagesPerHugePage);
    const std::size_t most = 1 + input_.Below(kPagesPerHugePage - first);
    const bool zero = input_.OneIn(2);
    Model& model = models_[index];
    std::size_t count = 0;
    while (count < most && model.pages[first + count] == Page::kUsed) ++count;
    if (count == 0) return;
    packing_.Unlist(pages_[index]);
    pages_[index]->MarkFree(first, count, zero);
    packing_.List(pages_[index]);
    std::fill(model.pages + first, model.pages + first + count, zero ? Page::kZero : Page::kWarm);
    model.listed = true;
  }

  void Relist() {
    const std::size_t index = input_.Below(kHugePages);
    packing_.Unlist(pages_[index]);
    models_[index].listed = input_.OneIn(2) && models_[index].LongestRun(false) != 0;
    if (models_[index].listed) packing_.List(pages_[index]);
  }

  void Check() {
    std::size_t longest = 0;
    for (std::size_t i = 0; i < kHugePages; ++i) {
      const Model& model = models_[i];
      HugePage* const huge_page = pages_[i];
      std::size_t free = 0;
      for (std::size_t page = 0; page < kPagesPerHugePage; ++page) {
        FUZZ_REQUIRE(huge_page->free.Test(page) == (model.pages[page] != Page::kUsed));
        FUZZ_REQUIRE(huge_page->zero.Test(page) == (model.pages[page] == Page::kZero));
        free += model.pages[page] != Page::kUsed ? 1 : 0;
      }
      FUZZ_REQUIRE(huge_page->free_pages == free);
      FUZZ_REQUIRE(huge_page->linked() == model.listed);
      if (model.listed) longest = std::max(longest, model.LongestRun(false));
    }
    for (std::size_t count = longest + 1; count <= kPagesPerHugePage; count += 37) {
      FUZZ_REQUIRE(!packing_.has_run_of(count));
    }
    FUZZ_REQUIRE(longest == 0 || packing_.has_run_of(longest));
  }

  tarn_test::Input input_;
  tarn_test::FakeReservation pages_{kHugePages};
  Packing packing_;
  Model models_[kHugePages];
};

}  // namespace
}  // namespace tarn

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn::Fuzzer(tarn_test::Input(data, size)).Run();
  return 0;
}
