// SPDX-License-Identifier: Apache-2.0
//
// The part of the page heap that serves large objects with mappings of their own: those beyond 512 MiB, and those
// that grew.
#include <algorithm>

#include "allocator/os/clock.h"
#include "allocator/os/move_pages.h"
#include "allocator/os/virtual_memory.h"
#include "allocator/pages/page_heap.h"
#include "allocator/pages/page_map.h"

namespace tarn {

namespace {

// Objects of at least this size move to a mapping of their own when they cannot grow where they are: moving their pages
// takes less than copying them. Chosen; docs/memory-return.md has what it brings.
constexpr std::size_t kMoveFloorBytes = std::size_t{4} << 20;
// An object that grew once will grow again: its mapping has room for twice its size, in addresses, not in memory.
constexpr std::size_t kMappingGrowth = 2;
// Each such object takes up to four of the 65530 mappings that a process may have, so beyond this they are copied.
constexpr std::size_t kMaxMovedObjects = 4096;

// Advises huge pages for all of a mapping, or none.
void AdviseMapping(void* start, std::size_t bytes, bool huge_pages) {
  if (huge_pages) {
    static_cast<void>(WantHugePages(start, bytes / kHugePageBytes * kHugePageBytes));
  } else {
    static_cast<void>(RefuseHugePages(start, bytes));
  }
}

void* MapCommitted(std::size_t bytes, std::size_t alignment_bytes) {
  void* start = Reserve(bytes, alignment_bytes);
  if (start == nullptr) return nullptr;
  if (IsServable(start, bytes) && Commit(start, bytes)) return start;
  Unreserve(start, bytes);
  return nullptr;
}

}  // namespace

bool PageHeap::PermitsMapping(const void* start, std::size_t bytes) const {
  const bool has_leaf = page_map.HasLeaf(PageId::Containing(start).raw() / kPagesPerLeaf);
  return Permits(bytes + (has_leaf ? 0 : sizeof(PageMapLeaf)));
}

Span* PageHeap::AllocateMapped(PageCount pages, PageCount alignment, bool prefer_zero, std::size_t record_objects) {
  // The kernel's pages may be larger than ours.
  const std::size_t bytes = RoundUp(pages.bytes(), std::max(OsPageBytes(), kPageBytes));
  const std::size_t alignment_bytes = std::max(alignment.bytes(), kHugePageBytes);
  {
    LockHolder holder(lock_);
    if (!Permits(bytes)) return nullptr;
  }
  void* start = MapCommitted(bytes, alignment_bytes);
  Span* span = nullptr;
  bool ask;
  bool needs_room;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    // Reservations may hold unused what is missing: addresses, or the charge for memory.
    if (start == nullptr && UnreserveFree()) start = MapCommitted(bytes, alignment_bytes);
    if (start == nullptr) return nullptr;
    // Once more: others may have taken memory since.
    if (PermitsMapping(start, bytes) && EnsureLeaves(PageId::Containing(start), PageCount(1))) {
      span = NewSpan(record_objects, SpanKind::kLarge);
    }
    if (span != nullptr) {
      usage_.AddMappedObject(PageCount::FromBytesCeil(bytes));
      NoteFresh(bytes);
    }
    ask = span != nullptr && !prefer_zero && bytes >= kAskFloorHugePages * kHugePageBytes && MayAsk(bytes) &&
          dense_sizes_.LikelyFilled(PageId::Containing(start), bytes / kHugePageBytes, lock_).known;
    needs_room = NeedsRoom();
  }
  if (span == nullptr) {
    Unreserve(start, bytes);
    return nullptr;
  }
  span->first_page = PageId::Containing(start);
  span->pages = PageCount::FromBytesCeil(bytes);
  span->mapping_pages = span->pages.raw();
  span->kind = SpanKind::kMapped;
  NameMemory(start, bytes, "tarn large");
  AdviseMapping(start, bytes, ask);
  if (ask && IsDear(start)) AdviseMapping(start, bytes, false);
  if (needs_room) MakeRoom(bytes);
  page_map.Register(span);
  return span;
}

bool PageHeap::ResizeWithinMapping(Span* span, PageCount pages) {
  // The kernel's pages may be larger than ours.
  pages = PageCount(RoundUp(pages.raw(), std::max<std::size_t>(OsPageBytes() / kPageBytes, 1)));
  if (pages.raw() > span->mapping_pages) return false;
  const bool grows = pages > span->pages;
  void* const border = (span->first_page + std::min(pages, span->pages)).start();
  const std::size_t bytes = (grows ? pages - span->pages : span->pages - pages).bytes();
  if (grows) {
    // Counted before it is there, so that no other thread gets it too.
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    if (!Permits(bytes)) return false;
    usage_.BeginGrowth(bytes);
  }
  bool done = true;
  if (grows) {
    // The room of an object is not in core dumps, unless the process has no mappings left for that border.
    done = Commit(border, bytes);
    const PageCount dumped = done ? pages : PageCount(span->mapping_pages);
    Dump(border, (dumped - span->pages).bytes());
    if (!done) done = Commit(border, bytes);
  } else if (bytes != 0) {
    {
      LockHolder holder(lock_);
      dense_sizes_.NoteGone(span->first_page, span->pages, lock_);
    }
    const Decommitted decommitted = Decommit(border, bytes);
    if (decommitted == Decommitted::kDone) LeaveOutOfDumps(border, bytes);
    done = decommitted != Decommitted::kUnchanged;
    if (decommitted == Decommitted::kLost) {
      const PageCount reserved = PageCount(span->mapping_pages) - span->pages;
      if (reserved != PageCount(0)) Unreserve((span->first_page + span->pages).start(), reserved.bytes());
      span->mapping_pages = pages.raw();
    }
  }
  bool needs_room;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    if (!done) {
      if (grows) usage_.CancelGrowth(bytes);
      return false;
    }
    if (grows) NoteFresh(bytes);
    usage_.ResizeMapped(span->pages, pages);
    span->pages = pages;
    needs_room = NeedsRoom();
  }
  if (needs_room) MakeRoom(bytes);
  return true;
}

bool PageHeap::ReserveForMove(std::size_t bytes, Move* move) {
  move->bytes = bytes;
  // Addresses are dear where they are limited.
  move->mapping_bytes = address_source_.IsLimited() ? bytes : RoundUp(bytes * kMappingGrowth, kHugePageBytes);
  move->start = Reserve(move->mapping_bytes, kHugePageBytes);
  if (move->start == nullptr && move->mapping_bytes != bytes) {
    move->mapping_bytes = bytes;
    move->start = Reserve(bytes, kHugePageBytes);
  }
  if (move->start != nullptr && move->mapping_bytes != bytes) {
    LeaveOutOfDumps(static_cast<char*>(move->start) + bytes, move->mapping_bytes - bytes);
  }
  return move->start != nullptr;
}

bool PageHeap::PrepareMove(const Span* span, Move* move) {
  const PageCount old_pages = span->pages;
  const std::size_t added_bytes = move->bytes - old_pages.bytes();
  // The contents come to its start, which stays reserved until then.
  if (!IsServable(move->start, move->mapping_bytes) ||
      !Commit(static_cast<char*>(move->start) + old_pages.bytes(), added_bytes)) {
    return false;
  }
  // Before its pages leave, and without the lock: the look may wait for the program's memory.
  const bool filled = LooksFilled(span->start(), old_pages.bytes());
  LockHolder holder(lock_);
  const PublishAtEnd publish{this};
  dense_sizes_.NoteGone(span->first_page, old_pages, lock_);
  move->huge_pages = MayAsk(added_bytes) && filled;
  if (span->kind != SpanKind::kMapped && usage_.mapped_objects() >= kMaxMovedObjects) return false;
  if (!PermitsMapping(move->start, added_bytes) || !EnsureLeaves(PageId::Containing(move->start), PageCount(1))) {
    return false;
  }
  // Counted before it is there, so that no other thread gets it too.
  usage_.BeginGrowth(added_bytes);
  if (span->kind == SpanKind::kLarge) {
    const PageId last_page = span->first_page + old_pages - PageCount(1);
    const std::size_t huge_pages = last_page.raw() / kPagesPerHugePage - span->first_page.raw() / kPagesPerHugePage + 1;
    move->leaves_nothing = StopAsking(span->huge_page, huge_pages);
  }
  return true;
}

bool PageHeap::MoveLarge(Span* span, PageCount pages) {
  if (IsAbandoned(span)) return false;
  const std::size_t old_bytes = span->bytes();
  if (old_bytes < kMoveFloorBytes || pages <= span->pages) return false;
  const std::size_t os_page_bytes = std::max(OsPageBytes(), kPageBytes);
  if (old_bytes % os_page_bytes != 0 || span->start_address() % os_page_bytes != 0) return false;
  Move move;
  if (!ReserveForMove(RoundUp(pages.bytes(), os_page_bytes), &move)) return false;
  if (!PrepareMove(span, &move)) {
    Unreserve(move.start, move.mapping_bytes);
    return false;
  }
  NameMemory(move.start, move.mapping_bytes, "tarn large");
  const MoveResult result = MovePages(span->start(), move.start, old_bytes, move.huge_pages);
  if (result == MoveResult::kFailed) {
    Unreserve(static_cast<char*>(move.start) + old_bytes, move.mapping_bytes - old_bytes);
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    usage_.CancelGrowth(move.bytes - old_bytes);
    return false;
  }
  move.leaves_nothing &= result == MoveResult::kMoved;
  FinishMove(span, move);
  return true;
}

void PageHeap::FinishMove(Span* span, const Move& move) {
  const PageCount old_pages = span->pages;
  const PageCount pages = PageCount::FromBytesCeil(move.bytes);
  // Before the old pages may have another owner.
  page_map.Unregister(span);
  // One advice for all of it leaves one mapping.
  AdviseMapping(move.start, move.mapping_bytes, move.huge_pages);
  const std::size_t next_bytes = RoundUp(old_pages.bytes(), kHugePageBytes);
  if (move.huge_pages && next_bytes + kHugePageBytes <= move.bytes &&
      IsDear(static_cast<char*>(move.start) + next_bytes)) {
    AdviseMapping(move.start, move.mapping_bytes, false);
  }
  if (span->kind == SpanKind::kMapped) {
    Unreserve(span->start(), PageCount(span->mapping_pages).bytes());
  } else {
    ForgetAdvice(span->start(), old_pages.bytes());
  }
  bool needs_room;
  {
    LockHolder holder(lock_);
    const PublishAtEnd publish{this};
    if (span->kind == SpanKind::kLarge) {
      FreeRun(span->huge_page, span->first_page, old_pages, CoarseMilliseconds(), move.leaves_nothing);
      usage_.MakeMapped(old_pages);
    }
    usage_.ResizeMapped(old_pages, pages);
    NoteFresh((pages - old_pages).bytes());
    needs_room = NeedsRoom();
  }
  if (needs_room) MakeRoom((pages - old_pages).bytes());
  span->first_page = PageId::Containing(move.start);
  span->pages = pages;
  span->kind = SpanKind::kMapped;
  span->mapping_pages = PageCount::FromBytesCeil(move.mapping_bytes).raw();
  page_map.Register(span);
}

}  // namespace tarn
