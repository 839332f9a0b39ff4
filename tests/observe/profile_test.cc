// SPDX-License-Identifier: Apache-2.0
//
// The sampler draws what it says, and the profile keeps what it is told.

#include "allocator/observe/profile.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "allocator/cpu_cache/sampler.h"
#include "allocator/cpu_cache/slab.h"
#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/observe/published.h"
#include "allocator/observe/snapshot_reader.h"
#include "tests/cpu_cache/floors.h"
#include "tests/pages/fresh_page_heap.h"

namespace tarn {
namespace {

constexpr std::size_t kRate = std::size_t{512} << 10;

TEST(Sampler, DrawsNothingAtRateZero) {
  Sampler sampler;
  unsigned shift;
  EXPECT_EQ(sampler.DrawDistance(5), kNeverSample);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(sampler.DrawBytes(std::size_t{1} << 40, &shift));
}

TEST(Sampler, DrawsEverythingAtRateOne) {
  Sampler sampler;
  sampler.SetRate(1);
  unsigned shift;
  // The smallest object is 8 bytes: p = 1 - exp(-8).
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(sampler.DrawBytes(64, &shift));
  EXPECT_EQ(shift, 0u);
  EXPECT_EQ(sampler.Weight(64, 0), 1u << kSampleWeightShift);
}

TEST(Sampler, TheDistanceIsGeometricWithTheMeanOfTheRate) {
  Sampler sampler;
  sampler.SetRate(kRate);
  for (const SizeClass size_class : {SizeClass{2}, SizeClass{20}, SizeClass{kSizeClassCount - 1}}) {
    const double s = kSizeClasses[size_class].size_bytes;
    const double p = 1 - std::exp(-s / kRate);
    constexpr int kDraws = 200000;
    double sum = 0;
    int zeroes = 0;
    for (int i = 0; i < kDraws; ++i) {
      const auto skipped = static_cast<double>(sampler.DrawDistance(size_class) >> kSlabPopsShift);
      sum += skipped;
      zeroes += skipped == 0 ? 1 : 0;
    }
    // Six standard errors: the chance to fail by accident is 10^-9.
    const double mean = (1 - p) / p;
    EXPECT_NEAR(sum / kDraws, mean, 6 * std::sqrt(1 - p) / p / std::sqrt(kDraws)) << "class " << int{size_class};
    EXPECT_NEAR(zeroes / double{kDraws}, p, 6 * std::sqrt(p * (1 - p) / kDraws)) << "class " << int{size_class};
  }
}

TEST(Sampler, ChancesAndWeightsBelongTogether) {
  Sampler sampler;
  sampler.SetRate(kRate);
  for (const std::size_t bytes : {std::size_t{4096}, std::size_t{65536}, kRate, 3 * kRate, 100 * kRate}) {
    const double p = 1 - std::exp(-static_cast<double>(bytes) / kRate);
    constexpr int kDraws = 200000;
    int drawn = 0;
    unsigned shift;
    for (int i = 0; i < kDraws; ++i) drawn += sampler.DrawBytes(bytes, &shift) ? 1 : 0;
    EXPECT_NEAR(drawn / double{kDraws}, p, 6 * std::sqrt(p * (1 - p) / kDraws) + 1e-9) << bytes;
    EXPECT_NEAR(static_cast<double>(sampler.Weight(bytes, 0)) / 65536 * p, 1, 1e-4) << bytes;
  }
  // Objects that were drawn at a wider rate stand for more.
  const double ratio = static_cast<double>(sampler.Weight(64, 3)) / static_cast<double>(sampler.Weight(64, 0));
  EXPECT_NEAR(ratio, 8, 0.01);
}

TEST(Sampler, WidensWhenSamplesComeTooFastAndNarrowsAgain) {
  Sampler sampler;
  sampler.SetRate(kRate);
  std::uint32_t now_ms = 1000;
  for (int i = 0; i < 100000; ++i) sampler.CountSample(now_ms);
  EXPECT_EQ(sampler.shift(), Sampler::kMaxShift);
  for (int i = 0; i < 100; ++i) sampler.CountSample(now_ms += 100);
  EXPECT_EQ(sampler.shift(), 0u);
}

// --- The tables ----------------------------------------------------------------------------------------------------

struct Parts {
  Sampler sampler;
  Profile profile;
};

Parts& Start() {
  PageHeap& heap = tarn_test::FreshPageHeap();
  // Kept, as the page heap is.
  static std::vector<std::unique_ptr<Parts>> kept;
  kept.push_back(std::make_unique<Parts>());
  Parts& parts = *kept.back();
  parts.sampler.SetRate(kRate);
  parts.profile.Init(&heap, &parts.sampler);
  return parts;
}

struct Bucket {
  tarn_snapshot_bucket sums;
  std::vector<std::uint64_t> frames;
};

std::vector<Bucket> Buckets(const Profile& profile) {
  std::vector<Bucket> buckets;
  const tarn_snapshot_profile* published = profile.published();
  std::uint64_t at_block = published->first_block_address;
  while (at_block != 0) {
    const auto* header = reinterpret_cast<const tarn_snapshot_bucket_block*>(at_block);
    std::uint64_t at = at_block + sizeof *header;
    const std::uint64_t end = at + header->used_bytes;
    while (at < end) {
      Bucket bucket;
      bucket.sums = *reinterpret_cast<const tarn_snapshot_bucket*>(at);
      const auto* frames = reinterpret_cast<const std::uint64_t*>(at + sizeof bucket.sums);
      bucket.frames.assign(frames, frames + bucket.sums.frames);
      buckets.push_back(bucket);
      at += sizeof bucket.sums + bucket.sums.frames * sizeof(std::uint64_t);
    }
    at_block = header->next_address;
  }
  return buckets;
}

TEST(Profile, KeepsSumsByStackAndSize) {
  Parts& parts = Start();
  std::vector<std::uint32_t> samples;
  for (int i = 0; i < 30; ++i) samples.push_back(parts.profile.Add(i % 3 == 0 ? 64 : 4096, 50, 0));
  for (const std::uint32_t sample : samples) EXPECT_NE(sample, 0u);
  const std::uint64_t small = parts.sampler.Weight(64, 0);
  const std::uint64_t large = parts.sampler.Weight(4096, 0);
  {
    const auto buckets = Buckets(parts.profile);
    ASSERT_EQ(buckets.size(), 2u);
    for (const Bucket& bucket : buckets) {
      const bool is_small = bucket.sums.size_bytes == 64;
      EXPECT_EQ(bucket.sums.allocated_samples, is_small ? 10u : 20u);
      EXPECT_EQ(bucket.sums.allocated_weight, is_small ? 10 * small : 20 * large);
      EXPECT_EQ(bucket.sums.freed_samples, 0u);
      EXPECT_GT(bucket.frames.size(), 2u);
    }
  }
  for (const std::uint32_t sample : samples) parts.profile.Remove(sample);
  parts.profile.Remove(0);
  for (const Bucket& bucket : Buckets(parts.profile)) {
    EXPECT_EQ(bucket.sums.freed_weight, bucket.sums.allocated_weight);
    EXPECT_EQ(bucket.sums.freed_samples, bucket.sums.allocated_samples);
    EXPECT_EQ(bucket.sums.requested_weighted_bytes, 0u);
  }
  EXPECT_EQ(parts.profile.published()->live_samples, 0u);
  EXPECT_EQ(parts.profile.published()->samples, 30u);
  EXPECT_EQ(parts.profile.published()->buckets, 2u);
}

TEST(Profile, NumbersOfSamplesAreUsedAgain) {
  Parts& parts = Start();
  const std::uint32_t first = parts.profile.Add(64, 64, 0);
  parts.profile.Remove(first);
  for (int i = 0; i < 100000; ++i) {
    const std::uint32_t sample = parts.profile.Add(64, 64, 0);
    ASSERT_EQ(sample, first);
    parts.profile.Remove(sample);
  }
}

TEST(Profile, DropsWhatFindsNoRoomAndSaysSo) {
  Parts& parts = Start();
  // Each size is a bucket of its own, so the buckets' memory is used up long before the loop ends.
  std::uint64_t dropped = 0;
  for (std::size_t bytes = 16; bytes < 2'000'000 && dropped < 100; ++bytes) {
    dropped += parts.profile.Add(bytes, bytes, 0) == 0 ? 1 : 0;
  }
  EXPECT_EQ(dropped, 100u);
  EXPECT_EQ(parts.profile.published()->dropped_samples, dropped);
}

TEST(Profile, ThreadsAddAndRemoveAtOnce) {
  Parts& parts = Start();
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&parts, t] {
      std::vector<std::uint32_t> samples;
      for (std::size_t i = 0; i < 5000; ++i) {
        samples.push_back(parts.profile.Add(16 * (1 + (i * 7 + t) % 50), 16, 0));
        if (samples.size() > 100) {
          parts.profile.Remove(samples[i % 100]);
          samples[i % 100] = samples.back();
          samples.pop_back();
        }
      }
      for (const std::uint32_t sample : samples) parts.profile.Remove(sample);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(parts.profile.published()->live_samples, 0u);
  std::uint64_t samples = 0;
  for (const Bucket& bucket : Buckets(parts.profile)) {
    samples += bucket.sums.allocated_samples;
    EXPECT_EQ(bucket.sums.allocated_weight, bucket.sums.freed_weight);
  }
  EXPECT_EQ(samples, 20000u);
}

// --- The slabs' part -----------------------------------------------------------------------------------------------

class SampledSlabs : public tarn_test::BothModes {};

// Of a class with p = s/R the slabs let one in 1/p allocations go to the slow path for a sample; neither refills nor
// flushes, whose pops and pushes count as well, change that.
TEST_P(SampledSlabs, AreDueAsOftenAsTheRateSays) {
  constexpr std::size_t kFastRate = 4096;
  constexpr SizeClass kClass = 9;
  tarn_test::Floors& floors = tarn_test::StartFloors(GetParam());
  floors.cpu_cache.sampler().SetRate(kFastRate);
  const tarn_test::AttachedThread attached(floors);
  floors.cpu_cache.RestartSampling();
  const double p = 1 - std::exp(-static_cast<double>(kSizeClasses[kClass].size_bytes) / kFastRate);
  constexpr int kAllocations = 300000;
  int sampled = 0;
  std::vector<void*> objects;
  for (int i = 0; i < kAllocations; ++i) {
    void* object = SlabPop(kClass);
    if (object == nullptr) {
      unsigned shift;
      sampled += floors.cpu_cache.TakeSample(kClass, &shift) ? 1 : 0;
      object = floors.cpu_cache.AllocateSlow(kClass);
      ASSERT_NE(object, nullptr);
    }
    objects.push_back(object);
    // Enough at once that batches are flushed.
    if (objects.size() == 300) {
      for (void* freed : objects) floors.Free(kClass, freed);
      objects.clear();
    }
  }
  for (void* freed : objects) floors.Free(kClass, freed);
  EXPECT_NEAR(sampled / double{kAllocations}, p, 6 * std::sqrt(p * (1 - p) / kAllocations));
}

TARN_IN_BOTH_MODES(SampledSlabs);

}  // namespace
}  // namespace tarn
