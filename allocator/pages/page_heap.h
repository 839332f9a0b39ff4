// SPDX-License-Identifier: Apache-2.0
//
// The page heap: the owner of all spans and pages of the process.
//
// Serves spans of small objects, large objects, and metadata, which lies apart. Uses os/virtual_memory.h.
//
// Pages come in huge pages of 2 MiB. Huge pages come out of reservations of 32 MiB to 1 GiB. They are committed as they
// come into use, in a large heap several at a time. A request of up to a huge page goes where it fits most tightly: of
// the huge pages whose longest free run is just long enough, a full one. So sparsely used huge pages drain and become
// free as a whole. Larger requests take whole huge pages in a row; what the last of them has left over is packed like
// any other. Requests beyond half of the largest reservation (512 MiB) get a mapping of their own.
//
// One lock. It is held while a reservation is made (mmap, once per doubling or GiB): the caller cannot go on without
// it, and others would only pile up more reservations. Nor is it given up for the metadata's few pages. It is not held
// while the program's memory is committed or released: the pages are marked as taken or used for that time.
//
// Free memory goes back (page_heap_release.cc) in five ways: at once, by the thread that frees more than is worth
// keeping (KeepWarmBytes); when the use has fallen, by the thread whose free let it fall (ReleaseExcess); by age and
// demand (ReleaseUnwanted, ReleaseIdlePages), both driven by policy/scavenger.h; on request (ReleaseFree); in a
// container, by the thread that takes memory next to the limit (page_heap_room.cc).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/units.h"
#include "allocator/include/tarn/snapshot.h"
#include "allocator/os/lock.h"
#include "allocator/pages/address_source.h"
#include "allocator/pages/bounds.h"
#include "allocator/pages/bring_cost.h"
#include "allocator/pages/demand.h"
#include "allocator/pages/dense_sizes.h"
#include "allocator/pages/figures.h"
#include "allocator/pages/free_pages.h"
#include "allocator/pages/huge_page.h"
#include "allocator/pages/in_flight.h"
#include "allocator/pages/metadata.h"
#include "allocator/pages/metadata_source.h"
#include "allocator/pages/release_budget.h"
#include "allocator/pages/reservations.h"
#include "allocator/pages/span.h"
#include "allocator/pages/usage.h"

namespace tarn {

struct ScavengeResult {
  std::size_t released_bytes = 0;
  std::size_t warm_huge_bytes = 0;  // still free, whole and warm
  // In how many milliseconds there will be more to release, as far as it is known by now; kNever: not at all.
  static constexpr std::uint32_t kNever = UINT32_MAX;
  std::uint32_t next_ms = kNever;
};

struct ReleaseBatch;

class PageHeap {
 public:
  constexpr PageHeap() = default;
  PageHeap(const PageHeap&) = delete;
  PageHeap& operator=(const PageHeap&) = delete;

  // A span for objects of the class, registered in the page map, all objects free. `kind` is kSmall, kSampled or
  // kChecked. Null when there is no memory. The span is populated only for a class that grows: others may use one
  // object of it.
  [[nodiscard]] Span* AllocateSmall(SizeClass size_class, SpanKind kind = SpanKind::kSmall, bool grows = true)
      TARN_EXCLUDES(lock_);

  // One large object. `alignment` is a power of two of pages. `*zero` tells whether every byte is known to be zero.
  // With `prefer_zero`, memory that is zero is taken rather than warm memory, if there is some. The span's record has
  // room for the bits of `record_objects` objects, which are not set; at most 1024.
  [[nodiscard]] Span* AllocateLarge(PageCount pages, PageCount alignment, bool* zero, bool prefer_zero = false,
                                    std::size_t record_objects = 0) TARN_EXCLUDES(lock_);

  // The span must not be in use by anybody. Its record is gone afterwards.
  void Deallocate(Span* span) TARN_EXCLUDES(lock_);

  // A large object was freed, and its pages stay out of use until Deallocate: it does not count as an object from now
  // on. Not for one with a mapping of its own. All of it is zero, and should not be resident.
  void BeginRest(Span* span) TARN_EXCLUDES(lock_);

  // Makes a large span end at `pages`: growing takes the pages behind it if they are free, or reserved for it (false
  // otherwise), shrinking gives the tail back and always works within a reservation.
  [[nodiscard]] bool ResizeLarge(Span* span, PageCount pages) TARN_EXCLUDES(lock_);
  // Moves a large span of a few MiB or more to a mapping of its own, where it has `pages` and room to grow: the kernel
  // moves the memory, nothing is copied. False: it is too small for that, or cannot be; nothing has changed then.
  // The caller has claimed the span (PageMap::Claim).
  [[nodiscard]] bool MoveLarge(Span* span, PageCount pages) TARN_EXCLUDES(lock_);

  // Zero-filled memory for the allocator itself, never given back. `alignment` is at most 4096.
  [[nodiscard]] void* AllocateMetadata(std::size_t bytes, std::size_t alignment, MetadataKind kind)
      TARN_EXCLUDES(lock_);

  // Gives free memory back to the kernel, whole huge pages first, until `keep_warm_bytes` remain; returns the bytes.
  // With `break_huge_pages`, free pages of huge pages in use go too.
  std::size_t ReleaseFree(std::size_t keep_warm_bytes, bool break_huge_pages) TARN_EXCLUDES(lock_);

  // The scavenger's part: releases whole huge pages that are free for longer than they are worth keeping (demand.h).
  // Those that were freed longest ago go first, until `most_bytes` are reached.
  ScavengeResult ReleaseUnwanted(std::uint32_t now_ms, std::size_t most_bytes) TARN_EXCLUDES(lock_);
  // A part of a pass over the huge pages in use: releases their pages that were free when the pass before came by, and
  // ever since; so the time between two passes is the least age. Returns true at the end of a pass. Only one thread at
  // a time may be in here.
  // With kAnyFree, free pages go whatever their age.
  // With kSparse too, but huge pages of the kernel's that are dense stay.
  enum class Idle : std::uint8_t { kIdle, kAnyFree, kSparse };
  bool ReleaseIdlePages(std::size_t most_bytes, std::size_t* released_bytes, Idle which = Idle::kIdle)
      TARN_EXCLUDES(lock_);
  // Releases whole huge pages, those first that were freed longest ago, until `bytes` are reached.
  std::size_t ReleaseOldest(std::size_t bytes) TARN_EXCLUDES(lock_);

  // A thread of ours gives memory back: nobody else is called for. At the end, what it left is taken as what cannot be
  // released, if it had finished.
  void BeginScavenging() TARN_EXCLUDES(lock_);
  void EndScavenging(bool finished = true) TARN_EXCLUDES(lock_);

  // The answer to kFallen: the use fell, or memory came from the kernel while free memory was resident that it did not
  // fit into. By one thread at a time: BeginGivingBack, then ReleaseExcess until it says kDone or time is
  // up, then EndGivingBack. What is free and resident beyond an eighth of what is in use is excess.
  struct Fall {
    std::size_t freed_bytes = 0;  // since the last fall was answered
    std::size_t in_use_bytes = 0;
  };
  Fall BeginGivingBack() TARN_EXCLUDES(lock_);
  enum class Excess : std::uint8_t { kDone, kMore };
  // Releases whole huge pages, at least `least_bytes` if there are as many. Where no whole one is left, free pages of
  // huge pages in use go, too.
  Excess ReleaseExcess(std::size_t least_bytes, std::size_t* released_bytes) TARN_EXCLUDES(lock_);
  // `ns`: the time that it took.
  void EndGivingBack(std::size_t released_bytes, std::uint64_t ns, Excess excess) TARN_EXCLUDES(lock_);

  // The use falls, and caches were emptied for it: flushes go past the transfer caches, or what they keep would keep
  // spans that are empty otherwise. Ends when a class needs objects again.
  bool falling() const { return falling_.load(std::memory_order_relaxed); }
  void SetFalling(bool falling) { falling_.store(falling, std::memory_order_relaxed); }

  // Requests of the page heap to any thread that is in a slow path and holds no lock: bits. Read without the lock.
  static constexpr std::uint32_t kScavengerWanted = 1;
  static constexpr std::uint32_t kCheckWanted = 2;
  static constexpr std::uint32_t kPeakReached = 4;
  static constexpr std::uint32_t kFallen = 8;
  std::uint32_t attention() const { return attention_.load(std::memory_order_relaxed); }

  // Sets kCheckWanted when another `bytes` have come into use that were not resident, as far as is known.
  void SetNextCheck(std::size_t bytes) TARN_EXCLUDES(lock_);
  // The sum of such bytes, ever.
  std::uint64_t fresh_bytes() const { return fresh_bytes_.load(std::memory_order_relaxed); }
  // Sets kPeakReached when the bytes in use or mapped exceed their highest value by `bytes`; 0: never.
  void SetNextPeak(std::size_t bytes) TARN_EXCLUDES(lock_);
  // Bounds the sum of what is in use, mapped and metadata; SIZE_MAX: no limit. Beyond it requests fail.
  void SetHardLimit(std::size_t bytes) TARN_EXCLUDES(lock_);

  // A container sets them.
  using Goals = MemoryGoals;
  void SetGoals(const Goals& goals) TARN_EXCLUDES(lock_);

  // How long what was in use stays (TARN_RELEASE_DELAY).
  void SetReleaseDelay(std::uint32_t milliseconds) TARN_EXCLUDES(lock_);

  // Allows or forbids advice for THP (TARN_HUGE_PAGES). At first it is allowed.
  void AllowHugePages(bool allowed) TARN_EXCLUDES(lock_);
  // For tests: huge pages are brought however long that takes.
  void IgnoreBringCost() TARN_EXCLUDES(lock_) {
    LockHolder holder(lock_);
    bring_cost_.Ignore();
  }

  // In the child of a fork, whose only thread is not inside of any function of this class.
  void RepairInForkedChild() TARN_EXCLUDES(lock_);
  // In the child of a fork where a thread that is no more was in the middle of a change: begins anew, without anything
  // of what there was (page_heap_abandon.cc). The only thread is inside of no function of this class.
  void AbandonInForkedChild();
  // The span is of before that. It cannot be resized, and its objects go to no free list.
  bool IsAbandoned(const Span* span) const { return abandoned_ != nullptr && LiesInAbandoned(span); }

  // True if the address lies in memory that spans are or were made of. Slow, for error messages.
  bool ServesAddress(std::uintptr_t address) TARN_EXCLUDES(lock_);

  // Rises as memory comes into use that the kernel has to provide, never used or released: with each 32nd of what is in
  // use, 128 KiB at least and 2 MiB at most; the first MiB counts for nothing. At runs of up to a huge page. A quarter
  // of what is taken counts in addition, resident or not.
  std::uint64_t growth() const { return growth_.load(std::memory_order_relaxed); }

  PageHeapStats Stats() TARN_EXCLUDES(lock_);
  // The same, and more, for readers that take no lock: see tarn_snapshot_pages. Written at the end of every operation.
  const tarn_snapshot_pages* published() const { return &published_; }

  // Aborts when an invariant of huge_page.h does not hold. Slow; for tests.
  void CheckInvariants() TARN_EXCLUDES(lock_);

  Lock& lock() TARN_THREAD_ANNOTATION(lock_returned(lock_)) { return lock_; }

 private:
  struct Run {
    HugePage* huge_page = nullptr;  // of the first page; null when there was no memory
    PageId first_page;
    bool zero = false;
    // Of these huge pages, counted from the first, the kernel is to be asked for its own.
    std::size_t asked_first = 0;
    std::size_t asked_count = 0;
    bool filled = false;    // they will be
    bool is_table = false;  // for large zero memory, and no huge pages are asked for
    // `pages` of huge page `index`, counted from the first, are taken; none of them is resident. Resident ones between
    // two that are not are advised too, which changes nothing for them.
    void NoteZero(std::size_t index, std::size_t pages) {
      if (pages != kPagesPerHugePage) return;
      if (asked_count == 0) asked_first = index;
      asked_count = index + 1 - asked_first;
    }
  };

  // Large objects with fewer whole huge pages are not worth a mapping of their own, which asking takes.
  static constexpr std::size_t kAskFloorHugePages = 2;

  TARN_COLD bool LiesInAbandoned(const Span* span) const;
  TARN_COLD void DeallocateAbandoned(Span* span);

  Run AllocateRun(PageCount pages, PageCount alignment, bool prefer_zero = false) TARN_REQUIRES(lock_);
  Run AllocateWithinHugePage(std::size_t pages, std::size_t alignment) TARN_REQUIRES(lock_);
  // `huge_page` is that of the first page.
  void FreeRun(HugePage* huge_page, PageId first_page, PageCount pages, std::uint32_t now_ms, bool zero = false)
      TARN_REQUIRES(lock_);

  // Takes `count` whole free huge pages in a row out of the free ones, committed. `alignment` counts huge pages.
  HugePage* TakeHugePages(std::size_t count, std::size_t alignment, bool prefer_zero = false) TARN_REQUIRES(lock_);
  Reservations::Place FindOrReserve(std::size_t count, std::size_t alignment) TARN_REQUIRES(lock_);
  // Takes these, which are free: committed, on no list, kPacked with all pages free. Drops the lock for the system
  // call.
  bool TakeThese(Reservations::Place place, std::size_t count) TARN_REQUIRES(lock_);
  // Commits those of them that are not, or puts them back.
  bool CommitTaken(Reservations::Place place, std::size_t count) TARN_REQUIRES(lock_);
  // Takes free huge pages at this index that are not committed, to be committed with those in front of them; returns
  // how many.
  std::size_t TakeAhead(Reservation* reservation, std::size_t index) TARN_REQUIRES(lock_);
  // From this one on, huge pages in flight become free again.
  void PutBack(const InFlight& in_flight, std::size_t from) TARN_REQUIRES(lock_);
  bool AddReservation(std::size_t huge_pages) TARN_REQUIRES(lock_);
  // Gives the free ends of all reservations back to the kernel, and the charge for what is committed and free
  // elsewhere; false when there was neither.
  bool UnreserveFree() TARN_REQUIRES(lock_);
  bool UnreserveEnd(Reservation* reservation) TARN_REQUIRES(lock_);
  bool DecommitFree(Reservation* reservation) TARN_REQUIRES(lock_);

  // The first `pages` of partly_dumped_ belong to core dumps from now on.
  TARN_COLD void DumpMore(std::size_t pages) TARN_REQUIRES(lock_);

  void NoteGrowth(std::size_t pages) TARN_REQUIRES(lock_);
  // Free pages of a packed huge page come into use. True: all of them were zero.
  bool Use(HugePage* huge_page, std::size_t first, std::size_t count) TARN_REQUIRES(lock_);

  // Takes these free pages out, as if they were allocated, so that nobody else can get them while the lock is not held.
  void TakeOut(InFlight* in_flight, HugePage* huge_page, HugePage::PageBits pages) TARN_REQUIRES(lock_);
  // And makes them free again, of which these are zero. Deletes the record.
  void BringBack(InFlight* in_flight, const HugePage::PageBits& zero) TARN_REQUIRES(lock_);
  // The warm huge pages that the kernel refused long ago, or all of them, are tried again.
  void TryRefusedAgain(bool all) TARN_REQUIRES(lock_);
  // Adds pages of a packed huge page, as far as they are whole OS pages. The batch has room.
  void AddToBatch(ReleaseBatch* batch, HugePage* huge_page, const HugePage::PageBits& pages) TARN_REQUIRES(lock_);
  // Releases what is in the batch, which is empty then; returns the bytes. Drops the lock for the system call.
  std::size_t ReleaseBatched(ReleaseBatch* batch) TARN_REQUIRES(lock_);
  std::size_t InUseBytes() const TARN_REQUIRES(lock_) {
    return usage_.in_use().bytes() + usage_.mapped_bytes() + metadata_.used_bytes();
  }
  Bounds::Held HeldBytes() const TARN_REQUIRES(lock_) {
    const std::size_t in_use_bytes = InUseBytes();
    return {in_use_bytes, bounds_.UntouchedBytes(in_use_bytes, usage_), free_.warm().bytes()};
  }
  // True if memory just came into use that has to displace other memory: MakeRoom has to be called.
  bool NeedsRoom() const TARN_REQUIRES(lock_) {
    return bounds_.has_goals() && bounds_.Excess(HeldBytes(), 0) != 0 &&
           fresh_bytes_.load(std::memory_order_relaxed) >= next_room_at_bytes_;
  }
  // Releases free memory until the goals hold, but not much more than `fresh_bytes`, which the caller took: so no call
  // stands still for long, and all calls together release what they take.
  void MakeRoom(std::size_t fresh_bytes) TARN_EXCLUDES(lock_);
  // Returns the bytes that may still be brought before their use: a share of the heap, less what all threads brought,
  // or are bringing, and did not use yet.
  std::size_t AheadBytes() const TARN_REQUIRES(lock_);
  // Releases a huge page of the warm list, which it leaves: what the kernel refuses goes to the list of refused ones.
  // Drops the lock for the system call. Adds the bytes that were resident and went. False: there is no record for it.
  [[nodiscard]] bool ReleaseWhole(HugePage* huge_page, std::size_t* released_bytes) TARN_REQUIRES(lock_);
  // Free pages of huge pages in use, for MakeRoom.
  std::size_t ReleaseScattered(std::size_t most_bytes, std::size_t margin_bytes) TARN_REQUIRES(lock_);

  // Memory that is about to be used (page_heap_populate.cc). The run has just become used by small objects, and none of
  // it is resident. If the heap is large enough for that, populates it and what follows it; drops the lock for that.
  void PopulateAhead(const Run& run, PageCount pages, std::size_t object_bytes) TARN_REQUIRES(lock_);
  bool PopulateHugePage(const Run& run, PageCount pages) TARN_REQUIRES(lock_);
  // True if THP are advised, which is found out when the first could be.
  bool BacksHugePages() TARN_REQUIRES(lock_);
  // And if they are worth their time at present, and the goals leave room for an object of `bytes`.
  bool MayAsk(std::size_t bytes) TARN_REQUIRES(lock_);
  // Large objects are not populated, since it is not known how much of them will be used. THP are advised for their
  // whole huge pages that are not resident, if they are likely to be filled: by others of about their size or, for an
  // object that grows, by what it has (`filled_bytes` from `grown` on). NoteAsked decides, and may drop the lock for a
  // look. The caller advises after it has released the lock.
  void NoteAsked(Run* run, const void* grown = nullptr, std::size_t filled_bytes = 0) TARN_REQUIRES(lock_);
  void Ask(const Run& run) TARN_EXCLUDES(lock_);
  // Touches a huge page of a large object, zero and asked for, to see what it takes, if that was not seen lately. True:
  // the others shall be small.
  bool IsDear(void* huge_page) TARN_EXCLUDES(lock_);
  // Takes that back, before pages of these huge pages become not resident. Drops the lock for the system call. False:
  // the kernel will not, so all of them have to be taken as resident.
  bool StopAsking(HugePage* first, std::size_t count) TARN_REQUIRES(lock_);

  // True if the hard limit leaves room for another `bytes`.
  bool Permits(std::size_t bytes) const TARN_REQUIRES(lock_);
  // And for what a mapping at this address needs in the page map.
  bool PermitsMapping(const void* start, std::size_t bytes) const TARN_REQUIRES(lock_);
  // Memory came into use that was not resident.
  void NoteFresh(std::size_t bytes) TARN_REQUIRES(lock_);
  // The same, now and then: free memory that it did not fit into may have to go.
  void NoteUnfit() TARN_REQUIRES(lock_);
  // True if the huge page that was freed longest ago may go. Growth displaces none that was in use just now.
  bool MayReleaseWhole(bool displacing) const TARN_REQUIRES(lock_);
  // `zero_pages` of the huge page, which were not resident, become so.
  void NoteTouched(const HugePage* huge_page, std::size_t zero_pages) TARN_REQUIRES(lock_);
  // Free memory became resident: somebody may have to give some back, by age.
  void NoteWarm() TARN_REQUIRES(lock_);
  // The same, after a free: the use may have fallen.
  void NoteFall(std::uint32_t now_ms) TARN_REQUIRES(lock_);

  // Makes room in the metadata, so that Metadata::Allocate does not fail.
  bool EnsureMetadata(std::size_t bytes, std::size_t alignment) TARN_REQUIRES(lock_);
  // For the record of a reservation there, and installs its leaves.
  bool EnsureMetadataFor(PageId first_page, std::size_t huge_pages) TARN_REQUIRES(lock_);
  void* TakeMetadata(std::size_t bytes) TARN_REQUIRES(lock_);
  void AddMetadata(void* start, std::size_t bytes) TARN_REQUIRES(lock_);
  Span* NewSpan(std::size_t objects, SpanKind kind) TARN_REQUIRES(lock_);
  Span* AllocateMapped(PageCount pages, PageCount alignment, bool prefer_zero, std::size_t record_objects)
      TARN_EXCLUDES(lock_);
  void ShrinkWithinReservation(Span* span, PageCount pages, std::uint32_t now_ms) TARN_REQUIRES(lock_);
  bool GrowWithinReservation(Span* span, PageCount pages, Run* added) TARN_REQUIRES(lock_);
  bool UsePart(HugePage* huge_page, std::size_t index, std::size_t count) TARN_REQUIRES(lock_);
  bool ResizeWithinMapping(Span* span, PageCount pages) TARN_EXCLUDES(lock_);
  // An object on its way to a mapping of its own.
  struct Move {
    void* start = nullptr;
    std::size_t bytes = 0;
    std::size_t mapping_bytes = 0;
    bool huge_pages = false;     // are advised for it
    bool leaves_nothing = true;  // the pages that it leaves are not resident
  };
  bool ReserveForMove(std::size_t bytes, Move* move);
  bool PrepareMove(const Span* span, Move* move) TARN_EXCLUDES(lock_);
  void FinishMove(Span* span, const Move& move) TARN_EXCLUDES(lock_);
  // How much memory of free huge pages is not given back at once.
  std::size_t KeepWarmBytes(std::uint32_t now_ms) TARN_REQUIRES(lock_);
  // The page map needs a leaf for each GiB that the pages lie in. TryInstallLeaves takes what metadata has room for.
  static std::size_t BytesOfMissingLeaves(PageId first_page, PageCount pages);
  [[nodiscard]] bool TryInstallLeaves(PageId first_page, PageCount pages) TARN_REQUIRES(lock_);
  [[nodiscard]] bool EnsureLeaves(PageId first_page, PageCount pages) TARN_REQUIRES(lock_);

  // Tells the readers how things stand.
  void Publish() TARN_REQUIRES(lock_);
  // Does so at the end of a scope in which the lock is held: stands behind the LockHolder.
  struct PublishAtEnd {
    PageHeap* heap;
    ~PublishAtEnd() TARN_NO_THREAD_SAFETY_ANALYSIS { heap->Publish(); }
  };

  Lock lock_ = Lock(LockRank::kPageHeap);
  MetadataSource metadata_source_ TARN_GUARDED_BY(lock_);
  Metadata metadata_ TARN_GUARDED_BY(lock_);
  Reservations reservations_ TARN_GUARDED_BY(lock_);
  // Of before AbandonInForkedChild. Changes there only, while there is one thread.
  MetadataReservation* abandoned_ = nullptr;
  Demand demand_ TARN_GUARDED_BY(lock_);
  ReleaseBudget release_budget_ TARN_GUARDED_BY(lock_);
  bool scavenger_at_work_ TARN_GUARDED_BY(lock_) = false;
  // Warm free pages that the last scavenger left, or the least number of them since.
  PageCount unreleasable_ TARN_GUARDED_BY(lock_);
  Reservations::Walk idle_hand_ TARN_GUARDED_BY(lock_);
  // ReleaseExcess goes over the huge pages in use.
  bool in_excess_pass_ TARN_GUARDED_BY(lock_) = false;
  // Pages that became free while it did, maybe behind it.
  PageCount freed_in_excess_pass_ TARN_GUARDED_BY(lock_);
  std::size_t freed_since_fall_bytes_ TARN_GUARDED_BY(lock_) = 0;
  // kFallen stands for growth, not for a fall. Says which account is charged, so a mix of both is harmless.
  bool displacing_ TARN_GUARDED_BY(lock_) = false;
  // Of fresh_bytes_: before that, growth displaces nothing.
  std::uint64_t next_displacing_at_bytes_ TARN_GUARDED_BY(lock_) = 0;
  std::atomic<bool> falling_ = false;
  Bounds bounds_ TARN_GUARDED_BY(lock_);
  std::uint64_t check_at_bytes_ TARN_GUARDED_BY(lock_) = 0;
  // Written under the lock, read without it.
  std::atomic<std::uint64_t> fresh_bytes_ = 0;
  // Of fresh_bytes_: before that, MakeRoom would find nothing.
  std::uint64_t next_room_at_bytes_ TARN_GUARDED_BY(lock_) = 0;
  Reservations::Walk room_hand_ TARN_GUARDED_BY(lock_);
  // Written under the lock, and cleared by the thread that answers; read without it.
  std::atomic<std::uint32_t> attention_ = 0;
  AddressSource address_source_;
  Usage usage_ TARN_GUARDED_BY(lock_);
  enum class HugePages : std::uint8_t { kUnknown, kAsked, kLeftAlone };
  HugePages huge_pages_ TARN_GUARDED_BY(lock_) = HugePages::kUnknown;
  BringCost bring_cost_ TARN_GUARDED_BY(lock_);
  // Of the peak of usage_; 0: nobody wants to know.
  std::size_t next_peak_bytes_ TARN_GUARDED_BY(lock_) = 0;
  // Written under the lock, read without it.
  std::atomic<std::uint64_t> growth_ = 0;
  // The sum of runs that came into use, resident or not.
  std::uint64_t taken_bytes_ TARN_GUARDED_BY(lock_) = 0;
  // Of fresh_bytes_ and a share of taken_bytes_: when it rises next.
  std::uint64_t next_growth_at_bytes_ TARN_GUARDED_BY(lock_) = 0;
  // Written under the lock.
  tarn_snapshot_pages published_ = {};
  InFlights in_flight_ TARN_GUARDED_BY(lock_);
  // The first huge page, while core dumps have the first dumped_pages_ of it only.
  HugePage* partly_dumped_ TARN_GUARDED_BY(lock_) = nullptr;
  std::size_t dumped_pages_ TARN_GUARDED_BY(lock_) = 0;
  DenseSizes dense_sizes_ TARN_GUARDED_BY(lock_);
  // Stands at the end, because its lists are long: a short process touches few of them, and so fewer pages.
  FreePages free_ TARN_GUARDED_BY(lock_);
};

}  // namespace tarn
