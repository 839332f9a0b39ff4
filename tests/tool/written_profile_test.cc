// The profile that a program writes of itself, as the tool reads it.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "allocator/include/tarn/profile.h"
#include "tools/tarn/profile/file.h"

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
