// SPDX-License-Identifier: Apache-2.0
//
// The heap profile: which stacks allocated what is live, and what ever was, by samples.
//
// Records each allocation that the sampler chose, and each free of one. Readers (the encoder, the
// snapshot) look at the same tables without a lock.
//
//   bucket   one (stack, size): cumulative sums of what was allocated and freed, weighted. Never goes away.
//   sample   one sampled object that is live: its bucket and weight. A number; 0 is none.
//
// The size is part of a bucket's key: a profile is scaled by size, and the mean over sizes would be biased.
//
// Memory is metadata, bounded by kMaxBucketBytes and kMaxSamples. What finds no room is counted as dropped, and as such
// shown; it is then missing from the profile.
//
// Threads. One lock guards the tables; it is taken once per sample, some thousand times a second at most. Nothing else
// is acquired while it is held. Buckets lie in blocks that only grow. A bucket is written in full before the block's
// used_bytes cover it (release). So readers, in this process or another, see whole buckets without the lock. Their
// sums are single words that only rise; a reader that comes between two of them sees one sample's difference.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/cpu_cache/sampler.h"
#include "allocator/include/tarn/snapshot.h"
#include "allocator/os/lock.h"
#include "allocator/pages/page_heap.h"

namespace tarn {

class Profile {
 public:
  constexpr Profile() = default;

  void Init(PageHeap* page_heap, Sampler* sampler) {
    page_heap_ = page_heap;
    sampler_ = sampler;
    published_.rate_bytes = sampler->rate_bytes();
  }

  // Records an object of `bytes` (of its class, or of its pages) of which the program asked for `requested_bytes`, that
  // was drawn at `shift`, with the stack of the caller. Returns its sample, or 0 when there is no room.
  [[nodiscard]] std::uint32_t Add(std::size_t bytes, std::size_t requested_bytes, unsigned shift) TARN_EXCLUDES(lock_);
  // The object is no more. 0 is allowed.
  void Remove(std::uint32_t sample) TARN_EXCLUDES(lock_);

  void SetRate(std::size_t rate_bytes);

  // In the child of a fork where another thread held the lock: what it was changing is left alone for good.
  void AbandonInForkedChild();

  const tarn_snapshot_profile* published() const { return &published_; }
  Lock& lock() TARN_THREAD_ANNOTATION(lock_returned(lock_)) { return lock_; }

 private:
  struct Sample {
    tarn_snapshot_bucket* bucket;
    std::uint64_t weight;
    std::uint64_t requested_weighted_bytes;
    std::uint32_t next_free;
  };

  static constexpr std::size_t kMaxFrames = 64;
  // Chosen: some hundred thousand stacks.
  static constexpr std::size_t kMaxBucketBytes = std::size_t{64} << 20;
  static constexpr std::size_t kBlockBytes = std::size_t{64} << 10;
  static constexpr std::size_t kHashHeads = 16384;
  static constexpr std::size_t kSamplesPerChunk = 2048;
  static constexpr std::size_t kSampleChunks = 1024;
  static constexpr std::size_t kMaxSamples = kSamplesPerChunk * kSampleChunks;

  // Makes room for one bucket and one sample, which may need memory, so without the lock. False: there is none.
  bool MakeRoom(std::size_t bucket_bytes) TARN_EXCLUDES(lock_);
  bool HasRoom(std::size_t bucket_bytes) const TARN_REQUIRES(lock_);
  tarn_snapshot_bucket* FindBucket(std::uint64_t hash, std::size_t bytes, const std::uintptr_t* frames,
                                   std::size_t count) TARN_REQUIRES(lock_);
  tarn_snapshot_bucket* NewBucket(std::uint64_t hash, std::size_t bytes, const std::uintptr_t* frames,
                                  std::size_t count) TARN_REQUIRES(lock_);
  // The sample of a number that was given out: 1 is the first.
  Sample& SampleAt(std::uint32_t number) TARN_REQUIRES(lock_) {
    return chunks_[(number - 1) / kSamplesPerChunk][(number - 1) % kSamplesPerChunk];
  }

  PageHeap* page_heap_ = nullptr;
  Sampler* sampler_ = nullptr;
  Lock lock_ = Lock(LockRank::kProfile);
  tarn_snapshot_bucket** heads_ TARN_GUARDED_BY(lock_) = nullptr;
  tarn_snapshot_bucket_block* last_block_ TARN_GUARDED_BY(lock_) = nullptr;
  std::size_t bucket_bytes_ TARN_GUARDED_BY(lock_) = 0;
  // Numbers given out so far, from 1 on.
  std::uint32_t samples_used_ TARN_GUARDED_BY(lock_) = 0;
  std::uint32_t samples_room_ TARN_GUARDED_BY(lock_) = 0;
  std::uint32_t first_free_sample_ TARN_GUARDED_BY(lock_) = 0;
  // Written under the lock.
  tarn_snapshot_profile published_ = {};
  // Last, for it is long and hardly used.
  Sample* chunks_[kSampleChunks] TARN_GUARDED_BY(lock_) = {};
};

}  // namespace tarn
