// SPDX-License-Identifier: Apache-2.0
//
// Memory that is in flight while the page heap's lock is not held: free pages that are marked as used while they are
// released or populated, or huge pages that are taken while they are committed. The list is for the child of a fork,
// where the thread is gone and its pages would be lost.
//
// Records are metadata: a signal handler may jump out of the system call, and a record on the stack would stay in the
// list. Pure: no lock, no system call. Guarded by the page heap's lock. All zero at the start (heap/process_heap.h).
#pragma once

#include <cstddef>
#include <new>

#include "allocator/base/intrusive_list.h"
#include "allocator/pages/huge_page.h"
#include "allocator/pages/metadata.h"

namespace tarn {

struct InFlight : ListLink<InFlight> {
  HugePage* huge_page = nullptr;
  HugePage::PageBits pages;             // of that huge page
  std::size_t count = 0;                // of huge pages that are being committed, from that one on,
  std::size_t committed = 0;            // of these, the number that are done,
  Reservation* committed_by = nullptr;  // and come from here
};

class InFlights {
 public:
  // An empty record, on no list. Null where metadata has no room: makes none itself, for a caller is in the middle of a
  // change.
  InFlight* New(Metadata* metadata) {
    if (InFlight* spare = spare_.PopFront()) return spare;
    if (!gave_first_) {
      gave_first_ = true;
      return &first_;
    }
    void* memory = metadata->Allocate(sizeof(InFlight), alignof(InFlight), MetadataKind::kPages);
    return memory == nullptr ? nullptr : ::new (memory) InFlight;
  }
  void List(InFlight* in_flight) { listed_.PushFront(in_flight); }
  // Takes the record off the list, if it is there, and keeps it for the next.
  void Delete(InFlight* in_flight) {
    if (in_flight->linked()) IntrusiveList<InFlight>::Remove(in_flight);
    *in_flight = {};
    spare_.PushFront(in_flight);
  }
  InFlight* front() const { return listed_.front(); }

 private:
  IntrusiveList<InFlight> listed_;
  IntrusiveList<InFlight> spare_;
  // Serves a short process, and costs it no page of metadata.
  InFlight first_;
  bool gave_first_ = false;
};

}  // namespace tarn
