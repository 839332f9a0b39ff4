// SPDX-License-Identifier: Apache-2.0
//
// Huge pages that are partly in use, by the length of their longest free run.
//
// A run goes where it fits most tightly: of the huge pages whose longest free run is just long enough, into a full one.
// So sparsely used huge pages drain and become free as a whole. Memory that is resident comes before that: a run that
// fits less tightly costs addresses, one that is not resident costs page faults and memory.
//
// Pure: no lock, no system call. Guarded by the page heap's lock. All zero at the start (heap/process_heap.h).
#pragma once

#include <cstddef>

#include "allocator/base/bitmap.h"
#include "allocator/base/intrusive_list.h"
#include "allocator/base/units.h"
#include "allocator/pages/huge_page.h"

namespace tarn {

class Packing {
 public:
  // Takes a huge page that has a free run of at least `pages` off its list; null: none has.
  HugePage* TryTake(std::size_t pages);
  // The same, of the first few that have a run of `pages` with memory behind it.
  HugePage* TryTakeWarm(std::size_t pages);
  // Puts a huge page, which is on no list, onto that of its longest free run, which is looked for if it is not known.
  // One without free pages stays on no list.
  void List(HugePage* huge_page);
  // Takes it off its list, if it is on one.
  void Unlist(HugePage* huge_page);

  bool has_run_of(std::size_t pages) const { return nonempty_.Test(pages); }

 private:
  static constexpr std::size_t kLists = kPagesPerHugePage + 64;
  // Bit i says that list i has a huge page. A short process touches few of the lists, and so few pages of them.
  Bitmap<kLists> nonempty_;
  IntrusiveList<HugePage> lists_[kPagesPerHugePage + 1];
};

}  // namespace tarn
