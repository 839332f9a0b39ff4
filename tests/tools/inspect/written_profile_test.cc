// SPDX-License-Identifier: Apache-2.0
//
// The profile that a program writes of itself, as the tool reads it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "allocator/include/tarn/profile.h"
#include "allocator/include/tarn/snapshot.h"
#include "tests/tools/inspect/sampling_pace.h"
#include "tools/inspect/profile/file.h"

namespace {

using tarn::tool::Profile;

constexpr std::size_t kBytes = 65536;
constexpr std::size_t kObjects = 4000;

[[gnu::noinline]] void AllocateKnown(std::vector<void*>* objects, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) objects->push_back(std::malloc(kBytes));
}

class WrittenProfile : public testing::Test {
 protected:
  WrittenProfile() : path_(testing::TempDir() + "tarn_written_" + std::to_string(::getpid()) + ".pb") {}
  ~WrittenProfile() override { std::filesystem::remove(path_); }

  Profile WriteAndRead() {
    EXPECT_EQ(tarn_write_heap_profile(path_.c_str()), 0);
    return tarn::tool::ReadProfileFile(path_);
  }
  // Sums of the samples of kBytes with a call site in AllocateKnown, by sample type.
  static std::vector<std::int64_t> SumsOfKnown(const Profile& profile) {
    const auto known = reinterpret_cast<std::uintptr_t>(&AllocateKnown);
    std::vector<std::int64_t> sums(profile.sample_types.size());
    for (const Profile::Sample& sample : profile.samples) {
      bool found = false;
      for (const std::uint32_t l : sample.locations) {
        const std::uint64_t address = profile.locations[l].address;
        found |= address > known && address - known < 512;
      }
      if (!found || sample.labels.at(0).number != static_cast<std::int64_t>(kBytes)) continue;
      for (std::size_t v = 0; v < sums.size(); ++v) sums[v] += sample.values.at(v);
    }
    return sums;
  }

  const std::string path_;
};

TEST_F(WrittenProfile, HasGosSampleTypesAndWhatIsLive) {
  std::vector<void*> objects;
  AllocateKnown(&objects, kObjects);
  const Profile live = WriteAndRead();
  ASSERT_EQ(live.sample_types.size(), 4u);
  const char* const types[] = {"alloc_objects", "alloc_space", "inuse_objects", "inuse_space"};
  const char* const units[] = {"count", "bytes", "count", "bytes"};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(live.Text(live.sample_types[i].type), types[i]);
    EXPECT_EQ(live.Text(live.sample_types[i].unit), units[i]);
  }
  EXPECT_EQ(live.Text(live.default_sample_type), "inuse_space");
  EXPECT_EQ(live.Text(live.period_type.type), "space");
  EXPECT_EQ(live.period, static_cast<std::int64_t>(tarn_profile_rate()));
  EXPECT_GT(live.time_ns, 0);

  const auto sums = SumsOfKnown(live);
  // p = 1 - exp(-1/8); six standard errors of some 470 samples.
  EXPECT_NEAR(static_cast<double>(sums[3]), double{kObjects} * kBytes, double{kObjects} * kBytes * 0.27);
  EXPECT_EQ(sums[0], sums[2]);
  EXPECT_EQ(sums[3], sums[2] * static_cast<std::int64_t>(kBytes));

  for (void* object : objects) std::free(object);
  const auto after = SumsOfKnown(WriteAndRead());
  EXPECT_EQ(after[0], sums[0]) << "what was allocated stays";
  EXPECT_EQ(after[2], 0) << "what was freed is not in use";
}

// --- How true it is ------------------------------------------------------------------------------------------------

// One size at a time, `live_objects` are kept and `churned_objects` are freed at once.
struct Load {
  std::size_t bytes;
  std::size_t live_objects;
  std::size_t churned_objects;
};

// In use is some 6.5 GiB of address space, which nobody touches and so costs no memory (the build switches huge pages
// off, which would be there with the first byte); allocated is that and 8.5 GiB.
constexpr Load kLoads[] = {
    {16, 4 << 20, 32 << 20},    {64, 1 << 20, 16 << 20},      {256, 256 << 10, 4 << 20},   {1024, 64 << 10, 1 << 20},
    {4096, 16 << 10, 64 << 10}, {16384, 128 << 10, 64 << 10}, {65536, 32 << 10, 16 << 10}, {262144, 8 << 10, 4 << 10},
    {1 << 20, 200, 500},        {4 << 20, 50, 100},
};

// Variance of the bytes of n objects of s bytes in a profile with the rate R. Each is drawn with p = 1 - exp(-s/R) and
// stands for s/p bytes, so it is n s^2 (1 - p)/p.
double Variance(std::size_t objects, std::size_t bytes, double rate) {
  const auto s = static_cast<double>(bytes);
  const double p = -std::expm1(-s / rate);
  return static_cast<double>(objects) * s * s * (1 - p) / p;
}

// The sums of the profile are within 5 % of the truth, for objects of 16 B to 4 MiB. The standard error of either sum
// is below 1 % (checked below), so that a right profile fails with a probability below 6e-7. Each size is held to six
// standard errors of its own besides: twenty times 2e-9.
TEST_F(WrittenProfile, IsWithinFivePerCentOfTheTruth) {
  const auto rate = static_cast<double>(tarn_profile_rate());
  ASSERT_EQ(rate, 512 << 10) << "the default";
  std::vector<void*> live;
  std::size_t live_count = 0;
  for (const Load& load : kLoads) live_count += load.live_objects;
  live.reserve(live_count);
  const Profile before = WriteAndRead();

  const auto* table = reinterpret_cast<const tarn_snapshot_profile*>(tarn_snapshot.profile_address);
  double due = 0;
  // The test before took samples, too.
  for (int i = 0; i < 4; ++i) tarn_test::SleepBetween128Samples();
  bool widened = table->rate_shift != 0;
  const auto allocate = [&](std::size_t bytes) {
    due += -std::expm1(-static_cast<double>(bytes) / rate);
    if (due >= 128) {
      due = 0;
      widened |= table->rate_shift != 0;
      tarn_test::SleepBetween128Samples();
    }
    return std::malloc(bytes);
  };
  double live_truth = 0, allocated_truth = 0, live_variance = 0, allocated_variance = 0;
  for (const Load& load : kLoads) {
    for (std::size_t i = 0; i < load.live_objects; ++i) live.push_back(allocate(load.bytes));
    ASSERT_NE(live.back(), nullptr);
    for (std::size_t i = 0; i < load.churned_objects; ++i) std::free(allocate(load.bytes));
    ASSERT_EQ(malloc_usable_size(live.back()), load.bytes) << "sizes of the table are counted as they are";
    live_truth += static_cast<double>(load.live_objects) * static_cast<double>(load.bytes);
    allocated_truth += static_cast<double>(load.live_objects + load.churned_objects) * static_cast<double>(load.bytes);
    live_variance += Variance(load.live_objects, load.bytes, rate);
    allocated_variance += Variance(load.live_objects + load.churned_objects, load.bytes, rate);
  }
  EXPECT_LT(std::sqrt(live_variance) / live_truth, 0.01);
  EXPECT_LT(std::sqrt(allocated_variance) / allocated_truth, 0.01);
  const Profile after = WriteAndRead();
  EXPECT_FALSE(widened) << "there are fewer samples than the computation says";
  EXPECT_EQ(table->dropped_samples, 0u);
  for (void* object : live) std::free(object);

  double live_sum = 0, allocated_sum = 0;
  for (const Load& load : kLoads) {
    const auto sum = [&](std::size_t type) {
      std::int64_t bytes = 0;
      for (const Profile* profile : {&after, &before}) {
        for (const Profile::Sample& sample : profile->samples) {
          if (sample.labels.at(0).number != static_cast<std::int64_t>(load.bytes)) continue;
          bytes += profile == &after ? sample.values[type] : -sample.values[type];
        }
      }
      return static_cast<double>(bytes);
    };
    const auto s = static_cast<double>(load.bytes);
    const std::size_t allocated_objects = load.live_objects + load.churned_objects;
    // An object for the rounding to whole ones, a half for each of two stacks.
    EXPECT_NEAR(sum(3), s * static_cast<double>(load.live_objects),
                6 * std::sqrt(Variance(load.live_objects, load.bytes, rate)) + s)
        << load.bytes;
    EXPECT_NEAR(sum(1), s * static_cast<double>(allocated_objects),
                6 * std::sqrt(Variance(allocated_objects, load.bytes, rate)) + s)
        << load.bytes;
    live_sum += sum(3);
    allocated_sum += sum(1);
  }
  EXPECT_NEAR(live_sum / live_truth, 1, 0.05);
  EXPECT_NEAR(allocated_sum / allocated_truth, 1, 0.05);
}

TEST_F(WrittenProfile, EveryLocationLiesInItsMapping) {
  std::vector<void*> objects;
  AllocateKnown(&objects, 500);
  const Profile profile = WriteAndRead();
  ASSERT_FALSE(profile.mappings.empty());
  ASSERT_FALSE(profile.locations.empty());
  const std::string own = std::filesystem::read_symlink("/proc/self/exe").string();
  EXPECT_EQ(profile.Text(profile.mappings[0].file), own) << "the first mapping is the program's";
  for (const Profile::Location& location : profile.locations) {
    ASSERT_NE(location.mapping, Profile::kNone);
    const Profile::Mapping& mapping = profile.mappings[location.mapping];
    EXPECT_GE(location.address, mapping.start);
    EXPECT_LT(location.address, mapping.limit);
  }
  for (void* object : objects) std::free(object);
}

TEST_F(WrittenProfile, CanBeWrittenWhileThreadsAllocate) {
  std::atomic<bool> stop = false;
  std::thread churn([&stop] {
    while (!stop.load()) std::free(std::malloc(kBytes));
  });
  for (int i = 0; i < 20; ++i) EXPECT_FALSE(WriteAndRead().samples.empty());
  stop.store(true);
  churn.join();
}

TEST_F(WrittenProfile, SaysWhyItCouldNotBeWritten) {
  EXPECT_EQ(tarn_write_heap_profile(nullptr), -1);
  EXPECT_EQ(errno, EINVAL);
  EXPECT_EQ(tarn_write_heap_profile("/does/not/exist/heap.pb"), -1);
  EXPECT_EQ(errno, ENOENT);
  EXPECT_EQ(tarn_write_heap_profile_fd(-1), -1);
  EXPECT_EQ(errno, EBADF);
  const int full = ::open("/dev/full", O_WRONLY);
  ASSERT_GE(full, 0);
  EXPECT_EQ(tarn_write_heap_profile_fd(full), -1);
  EXPECT_EQ(errno, ENOSPC);
  ::close(full);
}

}  // namespace
