// SPDX-License-Identifier: Apache-2.0
//
// Reads the snapshot that a process publishes (tarn/snapshot.h), its own or another's.
//
// For memstats.cc on this process, and for the tarn tool on others. `Memory` knows how to copy:
//
//   bool Read(std::uint64_t address, void* to, std::size_t bytes)   false: the address cannot be read
//
// Nothing in here allocates or waits. What is read may change while it is read, and in another process may be anything:
// every number that steers a loop is bounded by what a library of this version can have. Sums that cannot be are cut
// off at zero. tests/observe/snapshot_fuzzer.cc counts the reads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "allocator/include/tarn/memstats.h"
#include "allocator/include/tarn/registry.h"
#include "allocator/include/tarn/snapshot.h"

namespace tarn {

// This process. Copies by aligned words, each by one load: the counters are atomics of 64 bits, or live in one.
struct OwnMemory {
  bool Read(std::uint64_t address, void* to, std::size_t bytes) const {
    const auto* from = reinterpret_cast<const volatile std::uint64_t*>(address);
    auto* words = static_cast<unsigned char*>(to);
    for (std::size_t i = 0; i < bytes / sizeof(std::uint64_t); ++i) {
      const std::uint64_t word = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
      std::memcpy(words + i * sizeof word, &word, sizeof word);
    }
    return bytes % sizeof(std::uint64_t) == 0;
  }
};

enum class SnapshotError {
  kNone,
  kUnreadable,    // an address could not be read: the process ends, or is none of ours
  kNoMagic,       // there is no snapshot at the address
  kOtherVersion,  // it is of another version
  kNotStarted,    // the allocator has not been used yet
};

template <typename Memory>
class SnapshotReader {
 public:
  static constexpr std::size_t kMaxClasses = TARN_MEMSTATS_MAX_CLASSES + 1;

  explicit SnapshotReader(const Memory& memory) : memory_(memory) {}

  // Reads the block itself. Call it first, and again for figures of a later moment only if the process may have started
  // since.
  SnapshotError Open(std::uint64_t block_address) {
    if (!memory_.Read(block_address, &block_, sizeof block_)) return SnapshotError::kUnreadable;
    if (std::memcmp(block_.magic, TARN_SNAPSHOT_MAGIC, sizeof block_.magic) != 0) return SnapshotError::kNoMagic;
    if (block_.version != TARN_SNAPSHOT_VERSION || block_.bytes != sizeof block_) return SnapshotError::kOtherVersion;
    // A text for people, and read as one.
    block_.library_version[sizeof block_.library_version - 1] = '\0';
    if (block_.started == 0) return SnapshotError::kNotStarted;
    if (block_.size_class_count < 2 || block_.size_class_count > kMaxClasses) return SnapshotError::kOtherVersion;
    if (!memory_.Read(block_.size_classes_address, size_classes_,
                      block_.size_class_count * sizeof(tarn_snapshot_size_class))) {
      return SnapshotError::kUnreadable;
    }
    return SnapshotError::kNone;
  }

  const tarn_snapshot_block& block() const { return block_; }

  // The page heap as of one moment, or, after many tries, as of several that are close.
  bool ReadPages(tarn_snapshot_pages* pages) const {
    constexpr int kTries = 1000;
    for (int i = 0; i < kTries; ++i) {
      std::uint64_t after = 0;
      if (!memory_.Read(block_.pages_address, pages, sizeof *pages)) return false;
      __atomic_thread_fence(__ATOMIC_ACQUIRE);
      if (!memory_.Read(block_.pages_address, &after, sizeof after)) return false;
      if (pages->sequence == after && after % 2 == 0) break;
    }
    return true;
  }

  bool ReadProfile(tarn_snapshot_profile* profile) const {
    std::memset(profile, 0, sizeof *profile);
    return block_.profile_address == 0 || memory_.Read(block_.profile_address, profile, sizeof *profile);
  }

  // As many slabs as the library has at most (cpu_cache/slab.h).
  static constexpr std::uint32_t kMaxSlabs = 8192;
  // Calls f(index, const tarn_snapshot_slab_header*, const tarn_snapshot_slab_counters*) for each slab.
  template <typename F>
  bool ForEachSlab(F f) const {
    tarn_snapshot_slab_header headers[kMaxClasses];
    tarn_snapshot_slab_counters counters[kMaxClasses];
    const std::uint32_t slabs = std::min(block_.slab_entry_count, kMaxSlabs);
    for (std::uint32_t i = 0; i < slabs; ++i) {
      std::uint64_t slab = 0;
      const std::uint64_t entry = block_.slab_entries_address + std::uint64_t{i} * block_.slab_entry_stride;
      if (!memory_.Read(entry, &slab, sizeof slab)) return false;
      if (slab == 0) {
        // Indices of threads are given out in order, those of CPUs are not.
        if (block_.cache_mode == TARN_CACHES_PER_THREAD) break;
        continue;
      }
      if (!memory_.Read(slab + block_.slab_counters_offset, counters, block_.size_class_count * sizeof counters[0]) ||
          !memory_.Read(slab + block_.slab_headers_offset, headers, block_.size_class_count * sizeof headers[0])) {
        return false;
      }
      f(i, headers, counters);
    }
    return true;
  }

  // Calls f(const tarn_snapshot_bucket&, const std::uint64_t* frames) for each bucket of the profile; f returns false
  // to end. No version of the library keeps more frames. Of buckets it keeps half as many bytes (observe/profile.h),
  // which threads that add a block at the same time may exceed.
  static constexpr std::size_t kMaxFrames = 64;
  static constexpr std::uint64_t kMaxBucketBytes = std::uint64_t{128} << 20;
  template <typename F>
  bool ForEachBucket(F f) const {
    tarn_snapshot_profile profile;
    if (!ReadProfile(&profile)) return false;
    std::uint64_t frames[kMaxFrames];
    // For lists that run in circles. A block is never smaller than 64 KiB.
    constexpr std::uint64_t kMaxBlocks = kMaxBucketBytes >> 16;
    std::uint64_t left_bytes = kMaxBucketBytes;
    std::uint64_t block_address = profile.first_block_address;
    for (std::uint64_t blocks = 0; block_address != 0 && blocks < kMaxBlocks; ++blocks) {
      tarn_snapshot_bucket_block block;
      if (!memory_.Read(block_address, &block, sizeof block)) return false;
      std::uint64_t at = block_address + sizeof block;
      const std::uint64_t used_bytes = std::min(block.used_bytes, left_bytes);
      left_bytes -= used_bytes;
      const std::uint64_t end = at + used_bytes;
      while (at + sizeof(tarn_snapshot_bucket) <= end) {
        tarn_snapshot_bucket bucket;
        if (!memory_.Read(at, &bucket, sizeof bucket)) return false;
        if (bucket.frames > kMaxFrames) return false;
        if (!memory_.Read(at + sizeof bucket, frames, bucket.frames * sizeof frames[0])) return false;
        if (!f(bucket, frames)) return true;
        at += sizeof bucket + bucket.frames * sizeof frames[0];
      }
      block_address = block.next_address;
    }
    return true;
  }

  // Everything but rss_bytes and peak_rss_bytes, which the kernel knows.
  bool ReadMemStats(tarn_memstats_t* stats) const {
    std::memset(stats, 0, sizeof *stats);
    stats->class_count = block_.size_class_count - 1;
    // Frees are read before allocations where it matters, so that what is live is rather too much than too little.
    if (!ReadLists(stats)) return false;
    if (!ReadCaches(stats)) return false;
    tarn_snapshot_pages pages;
    tarn_snapshot_guards guards = {};
    if (!ReadPages(&pages) || !ReadGuards(&guards)) return false;
    Sum(pages, guards, stats);
    return ReadRequested(stats) && ReadNamedPools(stats) && ReadPolicies(stats);
  }

  // Calls f(const tarn_registry_record&) for each name of the registry that is complete.
  template <typename F>
  bool ForEachNamedPool(F f) const {
    if (block_.registry_address == 0 || block_.registry_record_bytes < sizeof(tarn_registry_record)) return true;
    constexpr std::uint32_t kReady = 2;
    for (std::uint32_t i = 0; i < std::min<std::uint32_t>(block_.registry_count, TARN_REGISTRY_RECORDS); ++i) {
      tarn_registry_record record;
      const std::uint64_t at = block_.registry_address + std::uint64_t{i} * block_.registry_record_bytes;
      if (!memory_.Read(at, &record, sizeof record)) return false;
      if (record.state == 0) break;
      record.name[TARN_REGISTRY_NAME_BYTES - 1] = '\0';
      if (record.state == kReady) f(record);
    }
    return true;
  }

  // One CPU's cache; f(const tarn_memstats_cpu&).
  template <typename F>
  bool ForEachCpu(F f) const {
    return ForEachSlab([&](std::uint32_t index, const auto* headers, const auto* counters) {
      tarn_memstats_cpu cpu = {};
      cpu.index = index;
      cpu.budget_bytes = block_.cache_budget_bytes;
      for (std::uint32_t c = 1; c < block_.size_class_count; ++c) {
        const std::uint64_t size = size_classes_[c].size_bytes;
        const std::uint64_t cached = Slots(headers[c], headers[c].word & 0xFFFF);
        cpu.hits += Difference(headers[c].word >> 16, counters[c].flushed);
        cpu.refills += counters[c].refills;
        cpu.flushes += counters[c].flushes;
        cpu.cached_objects += cached;
        cpu.cached_bytes += cached * size;
        cpu.capacity_bytes += Slots(headers[c], headers[c].end) * size;
      }
      f(cpu);
    });
  }

 private:
  static std::uint64_t Difference(std::uint64_t a, std::uint64_t b) { return a > b ? a - b : 0; }
  // The slots of a class up to this one; none while the slab is being set up or moves them elsewhere.
  template <typename Header>
  static std::uint64_t Slots(const Header& header, std::uint64_t end) {
    return header.begin == 0 ? 0 : Difference(end, header.begin);
  }

  // Spans, what is free in them, and the transfer caches.
  bool ReadLists(tarn_memstats_t* stats) const {
    for (std::uint32_t c = 1; c < block_.size_class_count; ++c) {
      tarn_memstats_class& of_class = stats->by_size[c - 1];
      of_class.size_bytes = size_classes_[c].size_bytes;
      const std::uint64_t list = block_.transfer_caches_address + std::uint64_t{c} * block_.transfer_cache_stride;
      std::uint64_t transfer_objects = 0;
      std::uint64_t spans = 0;
      std::uint64_t out = 0;
      if (!memory_.Read(list + block_.transfer_objects_offset, &transfer_objects, sizeof transfer_objects) ||
          !memory_.Read(list + block_.transfer_spans_offset, &spans, sizeof spans) ||
          !memory_.Read(list + block_.transfer_live_offset, &out, sizeof out)) {
        return false;
      }
      if (block_.sampled_lists_address != 0) {
        const std::uint64_t sampled = block_.sampled_lists_address + std::uint64_t{c} * block_.sampled_list_stride;
        std::uint64_t sampled_spans = 0;
        std::uint64_t sampled_out = 0;
        if (!memory_.Read(sampled + block_.sampled_spans_offset, &sampled_spans, sizeof sampled_spans) ||
            !memory_.Read(sampled + block_.sampled_live_offset, &sampled_out, sizeof sampled_out)) {
          return false;
        }
        spans += sampled_spans;
        out += sampled_out;
      }
      of_class.cached = transfer_objects;
      of_class.spans = spans;
      of_class.span_bytes = spans * size_classes_[c].span_bytes;
      const std::uint64_t objects = spans * size_classes_[c].objects_per_span;
      of_class.waste_bytes = Difference(of_class.span_bytes, objects * of_class.size_bytes);
      of_class.free = Difference(objects, out);
    }
    return true;
  }

  bool ReadCaches(tarn_memstats_t* stats) const {
    for (std::uint32_t c = 1; c < block_.size_class_count; ++c) {
      std::uint64_t direct[2];
      if (!memory_.Read(block_.direct_counters_address + c * sizeof direct, direct, sizeof direct)) return false;
      stats->by_size[c - 1].mallocs = direct[0];
      stats->by_size[c - 1].frees = direct[1];
    }
    const bool read = ForEachSlab([&](std::uint32_t, const auto* headers, const auto* counters) {
      ++stats->cpus;
      for (std::uint32_t c = 1; c < block_.size_class_count; ++c) {
        tarn_memstats_class& of_class = stats->by_size[c - 1];
        const std::uint64_t pops = headers[c].word >> 16;
        const std::uint64_t cached = Slots(headers[c], headers[c].word & 0xFFFF);
        // Slabs of which objects were flushed that others' refills brought may be below zero, the sum is not.
        of_class.mallocs += pops - counters[c].flushed + counters[c].direct_allocations;
        of_class.frees += cached + pops - counters[c].refilled + counters[c].direct_frees;
        of_class.cached += cached;
        of_class.refills += counters[c].refills;
        of_class.flushes += counters[c].flushes;
      }
    });
    for (std::uint32_t c = 1; c < block_.size_class_count; ++c) {
      tarn_memstats_class& of_class = stats->by_size[c - 1];
      // Moving counters may be off by what moved; nothing wraps round.
      if (of_class.mallocs > kImplausible) of_class.mallocs = 0;
      if (of_class.frees > of_class.mallocs) of_class.frees = of_class.mallocs;
      of_class.live = of_class.mallocs - of_class.frees;
    }
    return read;
  }
  static constexpr std::uint64_t kImplausible = std::uint64_t{1} << 62;

  bool ReadGuards(tarn_snapshot_guards* guards) const {
    return block_.guards_address == 0 || memory_.Read(block_.guards_address, guards, sizeof *guards);
  }

  void Sum(const tarn_snapshot_pages& pages, const tarn_snapshot_guards& guards, tarn_memstats_t* stats) const {
    for (std::uint32_t c = 1; c < block_.size_class_count; ++c) {
      const tarn_memstats_class& of_class = stats->by_size[c - 1];
      stats->mallocs += of_class.mallocs;
      stats->frees += of_class.frees;
      stats->small_live_bytes += of_class.live * of_class.size_bytes;
      stats->total_alloc_bytes += of_class.mallocs * of_class.size_bytes;
      stats->total_freed_bytes += of_class.frees * of_class.size_bytes;
      stats->cached_bytes += of_class.cached * of_class.size_bytes;
    }
    const std::uint64_t large_live = pages.large_bytes + pages.mapped_bytes;
    stats->large_live_bytes = large_live;
    stats->mapped_live_bytes = pages.mapped_bytes;
    stats->large_objects = pages.large_objects;
    stats->large_mallocs = pages.large_allocations;
    stats->large_frees = Difference(pages.large_allocations, pages.large_objects);
    stats->mallocs += stats->large_mallocs;
    stats->frees += stats->large_frees;
    stats->total_alloc_bytes += pages.large_allocated_bytes;
    stats->total_freed_bytes += pages.large_freed_bytes;
    stats->guard_places = guards.places;
    stats->guarded_objects = guards.live_objects;
    stats->guarded_bytes = guards.live_bytes;
    stats->guarded_held = guards.held_objects;
    stats->guarded_allocations = guards.allocations;
    stats->guard_reports = guards.reports;
    stats->mallocs += guards.allocations;
    stats->frees += Difference(guards.allocations, guards.live_objects);
    stats->heap_objects = stats->mallocs - stats->frees;
    stats->total_alloc_bytes += guards.allocated_bytes;
    stats->total_freed_bytes += Difference(guards.allocated_bytes, guards.live_class_bytes);
    stats->heap_alloc_bytes = stats->small_live_bytes + large_live + guards.live_class_bytes;
    stats->alloc_bytes = stats->heap_alloc_bytes;

    stats->heap_inuse_bytes = pages.in_use_bytes + pages.mapped_bytes + guards.live_bytes;
    const std::uint64_t uncommitted = Difference(pages.reserved_bytes, pages.committed_bytes);
    stats->heap_idle_bytes = pages.free_bytes + uncommitted;
    stats->heap_released_bytes = std::min(pages.free_zero_bytes, pages.free_bytes) + uncommitted;
    stats->heap_sys_bytes = stats->heap_inuse_bytes + stats->heap_idle_bytes;
    const std::uint64_t* metadata = pages.metadata_bytes;
    stats->mspan_inuse_bytes = pages.span_record_bytes;
    stats->mspan_sys_bytes = metadata[TARN_METADATA_SPANS];
    stats->mcache_sys_bytes = metadata[TARN_METADATA_CACHES];
    stats->mcache_inuse_bytes = metadata[TARN_METADATA_CACHES];
    stats->buck_hash_sys_bytes = metadata[TARN_METADATA_PROFILE];
    stats->page_map_sys_bytes = metadata[TARN_METADATA_PAGE_MAP];
    stats->sys_bytes = stats->heap_sys_bytes + pages.metadata_block_bytes;
    stats->other_sys_bytes = pages.metadata_block_bytes - stats->mspan_sys_bytes - stats->mcache_sys_bytes -
                             stats->buck_hash_sys_bytes - stats->page_map_sys_bytes;
    stats->peak_inuse_bytes = pages.peak_in_use_bytes;
    stats->released_total_bytes = pages.released_bytes;
    stats->huge_pages = pages.huge_pages;
    stats->huge_pages_free = pages.whole_free_huge_pages;
    stats->huge_pages_backed = pages.backed_huge_pages + pages.asked_huge_pages;
    if (stats->heap_inuse_bytes != 0) {
      const std::uint64_t dead = Difference(stats->heap_inuse_bytes, stats->heap_alloc_bytes);
      // By thousandths of the whole, so that nothing overflows.
      stats->fragmentation_permille = dead / std::max<std::uint64_t>(stats->heap_inuse_bytes / 1000, 1);
    }

    SetClasses(pages, uncommitted, stats);
  }

  // The page heap's figures are of one moment, the others of moments around it. So the parts of the spans are cut to
  // what the page heap says the spans are, and add up in any case.
  static void SetClasses(const tarn_snapshot_pages& pages, std::uint64_t uncommitted, tarn_memstats_t* stats) {
    tarn_memory_classes& classes = stats->classes;
    const std::uint64_t* metadata = pages.metadata_bytes;
    const std::uint64_t large_in_spans = std::min(pages.large_bytes, pages.in_use_bytes);
    std::uint64_t small = pages.in_use_bytes - large_in_spans;
    classes.mapped_bytes = stats->sys_bytes;
    classes.heap_cached_bytes = std::min(stats->cached_bytes, small);
    small -= classes.heap_cached_bytes;
    const std::uint64_t small_live = std::min(stats->small_live_bytes, small);
    classes.heap_live_bytes = small_live + large_in_spans + pages.mapped_bytes + stats->guarded_bytes;
    classes.heap_span_free_bytes = small - small_live;
    classes.heap_released_bytes = std::min(pages.free_zero_bytes, pages.free_bytes);
    classes.heap_free_bytes = pages.free_bytes - classes.heap_released_bytes;
    classes.heap_reserved_bytes = uncommitted;
    classes.metadata_spans_bytes = metadata[TARN_METADATA_SPANS];
    classes.metadata_page_map_bytes = metadata[TARN_METADATA_PAGE_MAP];
    classes.metadata_caches_bytes = metadata[TARN_METADATA_CACHES];
    classes.metadata_pages_bytes = metadata[TARN_METADATA_PAGES];
    classes.metadata_profile_bytes = metadata[TARN_METADATA_PROFILE];
    classes.metadata_other_bytes = metadata[TARN_METADATA_OTHER];
    std::uint64_t handed_out = 0;
    for (int kind = 0; kind < TARN_METADATA_KINDS; ++kind) handed_out += metadata[kind];
    classes.metadata_free_bytes = Difference(pages.metadata_block_bytes, handed_out);
  }

  bool ReadRequested(tarn_memstats_t* stats) const {
    return ForEachBucket([&](const tarn_snapshot_bucket& bucket, const std::uint64_t*) {
      stats->requested_estimate_bytes += bucket.requested_weighted_bytes;
      return true;
    });
  }

  // Limits, the scavenger, stalls.
  bool ReadPolicies(tarn_memstats_t* stats) const {
    tarn_snapshot_limits limits = {};
    tarn_snapshot_scavenger scavenger = {};
    tarn_snapshot_stalls stalls = {};
    const auto read = [this](std::uint64_t address, auto* to) {
      return address == 0 || memory_.Read(address, to, sizeof *to);
    };
    if (!read(block_.limits_address, &limits) || !read(block_.scavenger_address, &scavenger) ||
        !read(block_.stalls_address, &stalls)) {
      return false;
    }
    stats->next_gc_bytes = ~limits.not_soft_bytes;
    stats->hard_limit_bytes = ~limits.not_hard_bytes;
    stats->limit_exceeded = limits.exceeded;
    stats->limit_released_bytes = limits.released_bytes;
    stats->limit_release_ns = limits.release_ns;
    stats->hard_failures = limits.hard_failures;
    stats->scavenger_cycles = scavenger.cycles;
    stats->scavenger_cpu_ns = scavenger.cpu_ns;
    stats->scavenger_released_bytes = scavenger.released_bytes;
    stats->scavenger_drained_bytes = scavenger.drained_bytes;
    stats->stalls = stalls.count;
    stats->stall_total_ns = stalls.total_ns;
    stats->stall_longest_ns = stalls.longest_ns;
    static_assert(sizeof stats->stalls_by_time == sizeof stalls.by_time);
    std::memcpy(stats->stalls_by_time, stalls.by_time, sizeof stalls.by_time);
    return true;
  }

  bool ReadNamedPools(tarn_memstats_t* stats) const {
    return ForEachNamedPool([stats](const tarn_registry_record& record) {
      ++stats->named_pools;
      // Figures are added to by several threads, and may be below zero for a moment.
      stats->named_pool_live_bytes += static_cast<std::uint64_t>(std::max<std::int64_t>(record.live_bytes, 0));
      stats->named_pool_bytes += static_cast<std::uint64_t>(std::max<std::int64_t>(record.capacity_bytes, 0));
    });
  }

  const Memory& memory_;
  tarn_snapshot_block block_ = {};
  tarn_snapshot_size_class size_classes_[kMaxClasses] = {};
};

}  // namespace tarn
