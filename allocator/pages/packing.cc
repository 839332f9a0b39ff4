// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/packing.h"

namespace tarn {

namespace {

// The number of huge pages of a list among which the fullest is searched. Chosen: the lists are short, and the first
// few already differ more than the rest.
constexpr int kCandidates = 8;
// The number of huge pages that a search for warm runs looks at. Chosen: it takes less time than one page fault.
constexpr int kWarmCandidates = 16;

}  // namespace

HugePage* Packing::TryTake(std::size_t pages) {
  const std::size_t list = nonempty_.FindSet(pages);
  if (list > kPagesPerHugePage) return nullptr;
  HugePage* candidate = lists_[list].front();
  HugePage* fullest = nullptr;
  for (int i = 0; i < kCandidates && candidate != nullptr; ++i) {
    if (fullest == nullptr || candidate->free_pages < fullest->free_pages) fullest = candidate;
    candidate = lists_[list].Next(candidate);
  }
  Unlist(fullest);
  return fullest;
}

HugePage* Packing::TryTakeWarm(std::size_t pages) {
  int left = kWarmCandidates;
  HugePage* fullest = nullptr;
  for (std::size_t list = nonempty_.FindSet(pages); list <= kPagesPerHugePage && left != 0;
       list = nonempty_.FindSet(list + 1)) {
    for (HugePage* candidate = lists_[list].front(); candidate != nullptr && left != 0; --left) {
      const bool fuller = fullest == nullptr || candidate->free_pages < fullest->free_pages;
      if (fuller && candidate->HasWarmRun(pages)) fullest = candidate;
      candidate = lists_[list].Next(candidate);
    }
    if (fullest != nullptr) {
      Unlist(fullest);
      return fullest;
    }
  }
  return nullptr;
}

void Packing::List(HugePage* huge_page) {
  if (huge_page->longest_free_run == HugePage::kUnknownRun) {
    huge_page->longest_free_run = static_cast<std::uint16_t>(huge_page->free.LongestRun());
  }
  const std::size_t longest = huge_page->longest_free_run;
  if (longest == 0) return;
  lists_[longest].PushFront(huge_page);
  nonempty_.SetRange(longest, 1);
}

void Packing::Unlist(HugePage* huge_page) {
  if (!huge_page->linked()) return;
  IntrusiveList<HugePage>::Remove(huge_page);
  const std::size_t list = huge_page->longest_free_run;
  if (lists_[list].empty()) nonempty_.ClearRange(list, 1);
}

}  // namespace tarn
