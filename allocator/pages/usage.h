// SPDX-License-Identifier: Apache-2.0
//
// The bytes in use: in spans of reservations, in objects with mappings of their own, in large objects by their size.
//
// Kept up to date, so that figures and policies need no walk. Pure: no lock, no system call. Guarded by the page heap's
// lock. All zero at the start (heap/process_heap.h).
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"

namespace tarn {

class Usage {
 public:
  // Pages of spans in reservations.
  void Use(PageCount pages) { in_use_ += pages; }
  void Free(PageCount pages) { in_use_ -= pages; }

  // Large objects come, go, change.
  void AddLarge(PageCount pages) {
    large_in_use_ += pages;
    CountAllocation(pages);
  }
  void AddMappedObject(PageCount pages) {
    mapped_bytes_ += pages.bytes();
    ++mapped_objects_;
    CountAllocation(pages);
  }
  void RemoveLarge(PageCount pages) {
    large_in_use_ -= pages;
    CountFree(pages);
  }
  void RemoveMappedObject(PageCount pages) {
    mapped_bytes_ -= pages.bytes();
    --mapped_objects_;
    CountFree(pages);
  }
  void ResizeLarge(PageCount before, PageCount after) {
    large_in_use_ += after;
    large_in_use_ -= before;
    Resize(before, after);
  }
  // The bytes of a mapping that grows are counted before they are there, so that no other thread gets them too. The
  // growth ends by ResizeMapped or, if it failed, by CancelGrowth. A signal handler that jumps out of it ends neither;
  // then the bytes stay counted until the child of a fork forgets them, whose threads are all in no growth.
  void BeginGrowth(std::size_t bytes) {
    mapped_bytes_ += bytes;
    growing_bytes_ += bytes;
  }
  void CancelGrowth(std::size_t bytes) {
    mapped_bytes_ -= bytes;
    growing_bytes_ -= bytes;
  }
  void ForgetGrowths() { CancelGrowth(growing_bytes_); }
  // A mapping whose growth was begun, or that shrank.
  void ResizeMapped(PageCount before, PageCount after) {
    if (after > before) {
      growing_bytes_ -= (after - before).bytes();
    } else {
      mapped_bytes_ -= (before - after).bytes();
    }
    Resize(before, after);
  }
  // An object gets a mapping of its own.
  void MakeMapped(PageCount pages) {
    large_in_use_ -= pages;
    mapped_bytes_ += pages.bytes();
    ++mapped_objects_;
  }

  void NoteReleased(std::size_t bytes) { released_bytes_total_ += bytes; }
  // Returns the most bytes in use or mapped that there ever were.
  std::size_t UpdatePeak() {
    peak_bytes_ = std::max(peak_bytes_, in_use_.bytes() + mapped_bytes_);
    return peak_bytes_;
  }

  // Bytes of large objects in the classes of size, powers of two, that begin at half of `least_bytes` or more.
  std::size_t LargeBytesFrom(std::size_t least_bytes) const {
    std::size_t bytes = 0;
    for (std::size_t log = kLargeSizes; log-- != 0;) {
      // The least size of the objects that are counted here.
      if ((std::size_t{1} << kMiBShift << log) / 2 < least_bytes) break;
      bytes += large_by_size_[log];
    }
    return bytes;
  }

  PageCount in_use() const { return in_use_; }
  PageCount large_in_use() const { return large_in_use_; }
  std::size_t mapped_bytes() const { return mapped_bytes_; }
  std::size_t growing_bytes() const { return growing_bytes_; }
  std::size_t mapped_objects() const { return mapped_objects_; }
  std::size_t large_objects() const { return large_objects_; }
  std::size_t large_allocations_total() const { return large_allocations_total_; }
  std::size_t large_allocated_bytes_total() const { return large_allocated_bytes_total_; }
  std::size_t large_freed_bytes_total() const { return large_freed_bytes_total_; }
  std::size_t released_bytes_total() const { return released_bytes_total_; }
  std::size_t peak_bytes() const { return peak_bytes_; }

 private:
  static constexpr std::size_t kLargeSizes = 24;
  static constexpr unsigned kMiBShift = 20;

  std::size_t& Place(PageCount pages) {
    const auto log = static_cast<std::size_t>(std::bit_width(pages.bytes() >> kMiBShift));
    return large_by_size_[std::min(log, kLargeSizes - 1)];
  }
  void Resize(PageCount before, PageCount after) {
    Place(before) -= before.bytes();
    Place(after) += after.bytes();
    if (after > before) {
      large_allocated_bytes_total_ += (after - before).bytes();
    } else {
      large_freed_bytes_total_ += (before - after).bytes();
    }
  }
  void CountAllocation(PageCount pages) {
    Place(pages) += pages.bytes();
    ++large_objects_;
    ++large_allocations_total_;
    large_allocated_bytes_total_ += pages.bytes();
  }
  void CountFree(PageCount pages) {
    Place(pages) -= pages.bytes();
    --large_objects_;
    large_freed_bytes_total_ += pages.bytes();
  }

  PageCount in_use_;
  PageCount large_in_use_;
  std::size_t mapped_bytes_ = 0;
  std::size_t growing_bytes_ = 0;  // of mapped_bytes_
  // Bytes of large objects, in_use and mapped, by the binary logarithm of their size in MiB.
  std::size_t large_by_size_[kLargeSizes] = {};
  std::size_t mapped_objects_ = 0;
  std::size_t large_objects_ = 0;
  std::size_t large_allocations_total_ = 0;
  std::size_t large_allocated_bytes_total_ = 0;
  std::size_t large_freed_bytes_total_ = 0;
  std::size_t released_bytes_total_ = 0;
  std::size_t peak_bytes_ = 0;
};

}  // namespace tarn
