// SPDX-License-Identifier: Apache-2.0
//
// The addresses of metadata, apart from those of objects.
//
// A reservation of metadata holds no object. It lies at a random address, if the kernel lets it, and begins and ends
// with pages without access. A program that writes in a row, over or under an object, faults before it reaches a slab,
// a span record or the page map. And no constant distance leads from an object to one of these.
//
// Memory is committed from the start of a reservation on, a block at a time. Each block moves a border between two
// mappings, so that a process that has used up its mappings gets metadata as well.
//
// Guarded by the page heap's lock. All zero at the start (heap/process_heap.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

// A record of a reservation. It lies in metadata, and is never changed once it is listed.
struct MetadataReservation {
  MetadataReservation* next;
  std::uintptr_t start;
  std::uintptr_t end;
};

class MetadataSource {
 public:
  // Commits `bytes`, a multiple of 64 KiB. They are zero and left out of core dumps. `limited`: addresses are. Null:
  // the kernel refuses.
  void* Take(std::size_t bytes, bool limited);
  // Takes a part of it into core dumps.
  void DumpTaken(void* start, std::size_t bytes);

  // True if the last Take has made a reservation that is not listed yet. Its record may lie in what Take returned.
  bool needs_record() const { return unlisted_; }
  void List(MetadataReservation* record);

  // The list can be read in any state: a record comes by a single store.
  MetadataReservation* first() const { return first_; }
  std::size_t reserved_bytes() const { return reserved_bytes_; }

 private:
  bool HasRoom(std::size_t bytes) const;
  bool CommitNext(std::size_t bytes);
  bool Reserve(std::size_t bytes, bool limited);

  MetadataReservation* first_ = nullptr;
  std::uintptr_t start_ = 0;  // of the current reservation
  std::uintptr_t end_ = 0;
  std::uintptr_t next_ = 0;  // committed up to here
  std::size_t reserved_bytes_ = 0;
  bool unlisted_ = false;
};

}  // namespace tarn
