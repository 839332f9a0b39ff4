// SPDX-License-Identifier: Apache-2.0
//
// Guarded objects: a few objects of the program that have pages of their own between inaccessible ones.
//
// Some of the objects that the heap profile samples are guarded. An access past the end or before the start of one
// faults. So does each access after its free, until its place is needed again. The fault is reported with the stacks
// of the access, of the free and of the allocation (misuse/report.h).
//
//   | guard | place 0                 | guard | place 1                 | guard | ...
//              object.................                 .........object
//              at the start: guards its front           at the end: guards its back
//
// A place has kPlaceBytes, of which only the pages that the object needs are accessible. The object lies at their start
// or, aligned as the program may expect, at their end, as chance has it. The rest of its pages holds a pattern, which
// is checked at the free: it sees what the guards cannot, a few bytes between the object and the end of its page.
//
// The addresses are reserved with the first guarded object, so a process without samples has none of this. All else may
// be refused by the kernel at any time: then the object is not guarded, or not held after its free.
//
// A place is owned by one thread at a time, by its state, without a lock. So nothing here waits, and fork finds no lock
// to take. The state goes round:
//
//   kUnused -> kTaken -> kLive -> kFreeing -> kHeld -> kTaken ...
//
// kTaken and kFreeing belong to the thread that set them. Two frees at once both try kLive -> kFreeing: one succeeds,
// the other one is a double free. In the child of a fork a place that another thread had taken is lost. Where a handler
// jumps out of an allocation or a free of a guarded object (longjmp), its place is lost, too.
//
// No fault of the program comes here before its look at the state: the handler reads all places, and takes what it
// reads for facts. A place that changes at the same time can make the report wrong in its facts, never the handler
// fault: stacks are bounded, and all addresses are compared as numbers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"
#include "allocator/include/tarn/snapshot.h"
#include "allocator/misuse/report.h"
#include "allocator/os/memory_fault.h"
#include "allocator/pages/page_heap.h"
#include "size_classes/size_classes.h"

namespace tarn {

// The record of a place, in metadata.
struct GuardedPlace {
  enum State : std::uint32_t { kUnused, kTaken, kLive, kFreeing, kHeld };

  struct Stack {
    std::uintptr_t sites[StackHere::kMaxSites];
    std::atomic<std::uint32_t> count;
    std::uint32_t thread;
    void Record();
    StackFacts facts() const;
  };

  std::atomic<State> state;
  SizeClass size_class;
  // Pages may be accessible that should not be: a report was to go on.
  std::atomic<bool> opened;
  std::uint32_t sample;  // of the heap profile; 0: none
  std::atomic<std::uintptr_t> start;
  std::atomic<std::size_t> bytes;         // that the program asked for
  std::atomic<std::uint64_t> held_since;  // counts frees of guarded objects
  Stack allocation;
  Stack free;

  void* object() const { return reinterpret_cast<void*>(start.load(std::memory_order_relaxed)); }
};

class GuardedObjects {
 public:
  constexpr GuardedObjects() = default;

  // `most_objects` with a place at one time; one in `rate` samples is guarded, 0: none. `handle_faults`: faults are
  // reported, by a handler of SIGSEGV.
  void Init(PageHeap* page_heap, std::uint32_t most_objects, std::uint32_t rate, bool handle_faults);

  // Each object is to be guarded (TARN_CHECK=guard), at the end of its pages. Before the first one.
  void GuardAll(std::uint32_t most_objects) {
    guards_all_ = true;
    most_objects_ = most_objects;
    rate_ = 1;
  }
  // Installs the handler of SIGSEGV, where settings want it. When sampling begins, and again when it begins anew.
  void BeginHandlingFaults();

  // True if the next sample is to be guarded, as chance has it.
  bool Draw() { return rate_ != 0 && DrawOne(); }

  // In a slow path that is not nested. Null: no place is free, the object is too large, or the kernel refuses.
  // `alignment` is a power of two, at most a page of ours. The object has no sample.
  GuardedPlace* Allocate(SizeClass size_class, std::size_t bytes, std::size_t alignment);
  // A guarded object was made.
  bool has_region() const { return region_.load(std::memory_order_acquire) == Region::kReady; }
  // Frees the object: of two calls at once one goes on, the other one is reported, as is what was written around the
  // object. Returns the number of its sample. In a slow path that is not nested.
  std::uint32_t Free(GuardedPlace* place, const char* call);

  bool Contains(std::uintptr_t address) const {
    // Acquire pairs with the release in MakeRegion.
    return address - region_start_.load(std::memory_order_acquire) < region_bytes_.load(std::memory_order_relaxed);
  }
  // The place whose live object starts at the pointer, which Contains. Null: no object was ever near. Reports all
  // else as misuse.
  GuardedPlace* Resolve(const void* pointer, const char* call);

  // A fault of the program. Returns false if it is not one of a guarded object.
  bool OnFault(const MemoryFault& fault);

  const tarn_snapshot_guards* published() const { return &published_; }

  // Chosen: most objects that live for a short time are smaller, and the addresses of all places stay within 3 MiB.
  static constexpr std::size_t kPlaceBytes = std::size_t{32} << 10;
  static constexpr std::size_t kGuardBytes = kPageBytes;

 private:
  enum class Region : std::uint8_t { kNone, kMaking, kReady, kRefused };
  struct Pages {
    char* start;
    std::size_t bytes;
  };

  bool DrawOne();
  bool IsWithinBudget();
  bool MakeRegion();
  bool PutsAtEnd();
  GuardedPlace* Take();
  GuardedPlace* TakeNext();
  Pages PagesOf(const GuardedPlace& place) const;
  char* StartOf(const GuardedPlace& place) const;
  void Close(GuardedPlace* place);
  void CheckAround(const GuardedPlace& place, const char* call);
  const GuardedPlace* Nearest(std::uintptr_t address, GuardedPlace::State* state) const;
  MisuseReport FactsOf(const GuardedPlace& place, GuardedPlace::State state, const char* call, const void* address,
                       Misuse::Kind kind) const;
  void CountReport();

  static constexpr std::size_t kStride = kPlaceBytes + kGuardBytes;

  PageHeap* page_heap_ = nullptr;
  std::uint32_t rate_ = 0;
  std::uint32_t most_objects_ = 0;
  bool handle_faults_ = false;
  bool guards_all_ = false;
  std::atomic<bool> handles_faults_ = false;
  std::atomic<Region> region_ = Region::kNone;
  std::atomic<std::uint32_t> draws_ = 0;
  std::atomic<std::uint32_t> next_place_ = 0;
  // The objects of this window, for the budget of time.
  std::atomic<std::uint32_t> window_start_ms_ = 0;
  std::atomic<std::uint32_t> window_objects_ = 0;
  std::atomic<std::uintptr_t> region_start_ = 0;
  std::atomic<std::size_t> region_bytes_ = 0;
  GuardedPlace* places_ = nullptr;  // written before region_start_
  std::atomic<std::uint64_t> frees_ = 0;
  tarn_snapshot_guards published_ = {};
};

}  // namespace tarn
