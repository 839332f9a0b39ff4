// SPDX-License-Identifier: Apache-2.0

#include "allocator/pages/metadata_source.h"

#include <algorithm>
#include <atomic>

#include "allocator/base/units.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

// At each end. A multiple of all page sizes.
constexpr std::size_t kGuardBytes = std::size_t{64} << 10;
// As much as a process of some hundred MiB needs. Chosen.
constexpr std::size_t kFirstBytes = std::size_t{8} << 20;
constexpr std::size_t kMostBytes = std::size_t{1} << 30;

}  // namespace

bool MetadataSource::HasRoom(std::size_t bytes) const { return end_ != 0 && bytes <= end_ - kGuardBytes - next_; }

bool MetadataSource::CommitNext(std::size_t bytes) {
  void* const start = reinterpret_cast<void*>(next_);
  if (Commit(start, bytes)) return true;
  // The process may have no mappings left. Where the rest of the reservation belongs to core dumps, as what lies before
  // it does, no border is new.
  Dump(start, end_ - next_);
  if (Commit(start, bytes)) return true;
  LeaveOutOfDumps(start, end_ - next_);
  return false;
}

bool MetadataSource::Reserve(std::size_t bytes, bool limited) {
  const std::size_t needed_bytes = bytes + 2 * kGuardBytes;
  const std::size_t usual_bytes =
      limited ? needed_bytes : std::max(std::min(std::max(reserved_bytes_, kFirstBytes), kMostBytes), needed_bytes);
  std::size_t reserved = usual_bytes;
  void* start = ReserveApart(reserved);
  if (start == nullptr && reserved != needed_bytes) {
    reserved = needed_bytes;
    start = ReserveApart(reserved);
  }
  if (start == nullptr) return false;
  NameMemory(start, reserved, "tarn metadata");
  static_cast<void>(RefuseHugePages(start, reserved));
  LeaveOutOfDumps(start, reserved);
  start_ = reinterpret_cast<std::uintptr_t>(start);
  end_ = start_ + reserved;
  next_ = start_ + kGuardBytes;
  reserved_bytes_ += reserved;
  unlisted_ = true;
  return true;
}

void* MetadataSource::Take(std::size_t bytes, bool limited) {
  // A refused commit would be refused in a new reservation, too, and each try would leave one behind.
  if (!HasRoom(bytes) && !Reserve(bytes, limited)) return nullptr;
  if (!CommitNext(bytes)) return nullptr;
  void* const start = reinterpret_cast<void*>(next_);
  next_ += bytes;
  return start;
}

void MetadataSource::DumpTaken(void* start, std::size_t bytes) { Dump(start, bytes); }

void MetadataSource::List(MetadataReservation* record) {
  *record = {first_, start_, end_};
  // The child of a fork may read the list in between.
  std::atomic_signal_fence(std::memory_order_release);
  first_ = record;
  unlisted_ = false;
}

}  // namespace tarn
