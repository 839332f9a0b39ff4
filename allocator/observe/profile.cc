// SPDX-License-Identifier: Apache-2.0

#include "allocator/observe/profile.h"

#include <algorithm>
#include <atomic>
#include <new>

#include "allocator/observe/snapshot_reader.h"
#include "allocator/os/clock.h"
#include "allocator/unwind/stack_walk.h"

namespace tarn {

namespace {

// Readers hold no lock, so what they read is stored by single words. Only the lock's holder stores.
void Increase(std::uint64_t& counter, std::uint64_t by) {
  std::atomic_ref<std::uint64_t>(counter).store(counter + by, std::memory_order_relaxed);
}
void Store(std::uint64_t& word, std::uint64_t value, std::memory_order order = std::memory_order_relaxed) {
  std::atomic_ref<std::uint64_t>(word).store(value, order);
}

std::uint64_t* FramesOf(tarn_snapshot_bucket* bucket) { return reinterpret_cast<std::uint64_t*>(bucket + 1); }

std::uint64_t HashStack(std::size_t bytes, const std::uintptr_t* frames, std::size_t count) {
  std::uint64_t hash = bytes;
  for (std::size_t i = 0; i < count; ++i) {
    hash = (hash ^ frames[i]) * 0x9E3779B97F4A7C15;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace

bool Profile::HasRoom(std::size_t bucket_bytes) const {
  if (heads_ == nullptr || last_block_ == nullptr) return false;
  if (sizeof *last_block_ + last_block_->used_bytes + bucket_bytes > kBlockBytes) return false;
  return first_free_sample_ != 0 || samples_used_ < samples_room_;
}

// Each piece is allocated without the lock and put into place with it; what another thread was quicker with is lost,
// which happens a few times in a process's life.
bool Profile::MakeRoom(std::size_t bucket_bytes) {
  static_assert(2 * kMaxBucketBytes == SnapshotReader<OwnMemory>::kMaxBucketBytes);
  lock_.Acquire();
  const bool need_heads = heads_ == nullptr;
  const bool need_block =
      last_block_ == nullptr || sizeof *last_block_ + last_block_->used_bytes + bucket_bytes > kBlockBytes;
  const bool block_allowed = bucket_bytes_ + kBlockBytes <= kMaxBucketBytes;
  const bool need_samples = first_free_sample_ == 0 && samples_used_ >= samples_room_;
  const bool samples_allowed = samples_room_ < kMaxSamples;
  lock_.Release();
  if ((need_block && !block_allowed) || (need_samples && !samples_allowed)) return false;

  const auto allocate = [this](std::size_t bytes) {
    return page_heap_->AllocateMetadata(bytes, alignof(std::uint64_t), MetadataKind::kProfile);
  };
  if (need_heads) {
    auto* heads = static_cast<tarn_snapshot_bucket**>(allocate(kHashHeads * sizeof(tarn_snapshot_bucket*)));
    if (heads == nullptr) return false;
    LockHolder holder(lock_);
    if (heads_ == nullptr) heads_ = heads;
  }
  if (need_block) {
    auto* block = static_cast<tarn_snapshot_bucket_block*>(allocate(kBlockBytes));
    if (block == nullptr) return false;
    LockHolder holder(lock_);
    const auto address = reinterpret_cast<std::uintptr_t>(block);
    Store(last_block_ == nullptr ? published_.first_block_address : last_block_->next_address, address,
          std::memory_order_release);
    last_block_ = block;
    bucket_bytes_ += kBlockBytes;
  }
  if (need_samples) {
    auto* chunk = static_cast<Sample*>(allocate(kSamplesPerChunk * sizeof(Sample)));
    if (chunk == nullptr) return false;
    LockHolder holder(lock_);
    if (samples_used_ >= samples_room_ && samples_room_ < kMaxSamples) {
      chunks_[samples_room_ / kSamplesPerChunk] = chunk;
      samples_room_ += kSamplesPerChunk;
    }
  }
  return true;
}

tarn_snapshot_bucket* Profile::FindBucket(std::uint64_t hash, std::size_t bytes, const std::uintptr_t* frames,
                                          std::size_t count) {
  auto* bucket = heads_[hash % kHashHeads];
  while (bucket != nullptr) {
    if (bucket->hash == hash && bucket->size_bytes == bytes && bucket->frames == count &&
        std::equal(frames, frames + count, FramesOf(bucket))) {
      return bucket;
    }
    bucket = reinterpret_cast<tarn_snapshot_bucket*>(bucket->hash_next_address);
  }
  return nullptr;
}

tarn_snapshot_bucket* Profile::NewBucket(std::uint64_t hash, std::size_t bytes, const std::uintptr_t* frames,
                                         std::size_t count) {
  char* const at = reinterpret_cast<char*>(last_block_ + 1) + last_block_->used_bytes;
  auto* bucket = ::new (at) tarn_snapshot_bucket{};
  bucket->hash = hash;
  bucket->size_bytes = bytes;
  bucket->frames = static_cast<std::uint32_t>(count);
  std::copy(frames, frames + count, FramesOf(bucket));
  tarn_snapshot_bucket*& head = heads_[hash % kHashHeads];
  bucket->hash_next_address = reinterpret_cast<std::uintptr_t>(head);
  head = bucket;
  // Release: a reader that sees the bytes as used sees the bucket.
  Store(last_block_->used_bytes, last_block_->used_bytes + sizeof *bucket + count * sizeof(std::uint64_t),
        std::memory_order_release);
  Increase(published_.buckets, 1);
  return bucket;
}

std::uint32_t Profile::Add(std::size_t bytes, std::size_t requested_bytes, unsigned shift) {
  std::uintptr_t frames[kMaxFrames];
  bool truncated;
  const std::size_t count = WalkStack(frames, kMaxFrames, &truncated);
  const std::uint64_t hash = HashStack(bytes, frames, count);
  const std::uint64_t weight = sampler_->Weight(bytes, shift);
  const std::uint32_t now_ms = CoarseMilliseconds();
  const std::size_t bucket_bytes = sizeof(tarn_snapshot_bucket) + count * sizeof(std::uint64_t);

  lock_.Acquire();
  bool room = HasRoom(bucket_bytes);
  // Others may use up what was made; a few tries are enough where there is memory at all.
  constexpr int kTries = 4;
  for (int i = 0; i < kTries && !room; ++i) {
    lock_.Release();
    if (!MakeRoom(bucket_bytes)) i = kTries;
    lock_.Acquire();
    room = HasRoom(bucket_bytes);
  }
  sampler_->CountSample(now_ms);
  Store(published_.rate_shift, sampler_->shift());
  if (truncated) Increase(published_.truncated_stacks, 1);
  Increase(published_.samples, 1);
  std::uint32_t number = 0;
  if (room) {
    tarn_snapshot_bucket* bucket = FindBucket(hash, bytes, frames, count);
    if (bucket == nullptr) bucket = NewBucket(hash, bytes, frames, count);
    number = first_free_sample_;
    if (number == 0) {
      number = ++samples_used_;
    } else {
      first_free_sample_ = SampleAt(number).next_free;
    }
    Sample& sample = SampleAt(number);
    sample.bucket = bucket;
    sample.weight = weight;
    const double weighted = static_cast<double>(requested_bytes) * static_cast<double>(weight);
    sample.requested_weighted_bytes = static_cast<std::uint64_t>(weighted / (1 << kSampleWeightShift));
    Increase(bucket->allocated_weight, weight);
    Increase(bucket->allocated_samples, 1);
    Increase(bucket->requested_weighted_bytes, sample.requested_weighted_bytes);
    Increase(published_.live_samples, 1);
  } else {
    Increase(published_.dropped_samples, 1);
  }
  lock_.Release();
  return number;
}

void Profile::Remove(std::uint32_t number) {
  if (number == 0) return;
  LockHolder holder(lock_);
  Sample& sample = SampleAt(number);
  tarn_snapshot_bucket* const bucket = sample.bucket;
  Increase(bucket->freed_weight, sample.weight);
  Increase(bucket->freed_samples, 1);
  Increase(bucket->requested_weighted_bytes, 0 - sample.requested_weighted_bytes);
  Increase(published_.live_samples, static_cast<std::uint64_t>(-1));
  sample.bucket = nullptr;
  sample.next_free = first_free_sample_;
  first_free_sample_ = number;
}

void Profile::SetRate(std::size_t rate_bytes) {
  sampler_->SetRate(rate_bytes);
  LockHolder holder(lock_);
  Store(published_.rate_bytes, rate_bytes);
}

// Samples that were given out stay what they are, and so do the buckets that they point at.
void Profile::AbandonInForkedChild() TARN_NO_THREAD_SAFETY_ANALYSIS {
  lock_.ResetInForkedChild();
  heads_ = nullptr;
  last_block_ = nullptr;
  first_free_sample_ = 0;
}

}  // namespace tarn
