// SPDX-License-Identifier: Apache-2.0
//
// tarn/preset.h: a preset that a program chooses while it runs. Every body runs in a child, for it changes the process.

#include "allocator/include/tarn/preset.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <time.h>

#include <cstring>
#include <string_view>
#include <vector>

#include "allocator/include/tarn/limits.h"
#include "allocator/include/tarn/pool.h"
#include "allocator/include/tarn/profile.h"
#include "allocator/include/tarn/snapshot.h"
#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/expect_child.h"
#include "tests/life/parked_thread.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;
constexpr size_t kNoLimit = TARN_LIMIT_NONE;

const tarn_snapshot_option& Option(std::string_view name) {
  const auto* options = reinterpret_cast<const tarn_snapshot_option*>(tarn_snapshot.options_address);
  for (uint32_t i = 0; i < tarn_snapshot.option_count; ++i) {
    if (name == options[i].name) return options[i];
  }
  TARN_LIFE_REQUIRE(false);
  return *options;
}
bool Is(std::string_view name, std::string_view value, uint32_t source) {
  return value == Option(name).value && Option(name).source == source;
}

// The number of objects that a pool keeps by default.
size_t PoolBound() {
  tarn::Pool<int> pool({.epoch_ms = TARN_POOL_NO_EPOCHS});
  std::vector<int*> objects;
  for (int i = 0; i < 10000; ++i) objects.push_back(pool.Get());
  for (int* object : objects) pool.Put(object);
  return pool.Stats().cached_objects;
}

TEST(Preset, ChangesWhatCanChange) {
  ExpectGoodEnd(kBodySeconds, [] {
    TARN_LIFE_REQUIRE(std::string_view(tarn_preset()) == "off");
    TARN_LIFE_REQUIRE(Is("TARN_PRESET", "off", TARN_SOURCE_DEFAULT));
    const size_t usual_bound = PoolBound();
    TARN_LIFE_REQUIRE(usual_bound > 128 && usual_bound <= 1024);

    TARN_LIFE_REQUIRE(tarn::SetPreset("development"));
    TARN_LIFE_REQUIRE(std::string_view(tarn::PresetInForce()) == "development");
    TARN_LIFE_REQUIRE(Is("TARN_PRESET", "development", TARN_SOURCE_API));
    TARN_LIFE_REQUIRE(tarn_profile_rate() == 64 << 10);
    TARN_LIFE_REQUIRE(Is("TARN_PROFILE_RATE", "64KiB", TARN_SOURCE_PRESET));
    TARN_LIFE_REQUIRE(tarn_memory_limit() != kNoLimit);
    TARN_LIFE_REQUIRE(Is("TARN_MEMORY_LIMIT", "50%", TARN_SOURCE_PRESET));
    TARN_LIFE_REQUIRE(PoolBound() <= 128);
    // Only the start could have.
    TARN_LIFE_REQUIRE(Is("TARN_VERBOSE", "off", TARN_SOURCE_DEFAULT));

    // A value that the program sets itself stays.
    tarn_set_profile_rate(4096);
    tarn_set_memory_limit(512 * kMiB);
    TARN_LIFE_REQUIRE(tarn::SetPreset("production"));
    TARN_LIFE_REQUIRE(tarn_profile_rate() == 4096);
    TARN_LIFE_REQUIRE(Is("TARN_PROFILE_RATE", "4KiB", TARN_SOURCE_API));
    TARN_LIFE_REQUIRE(tarn_memory_limit() == 512 * kMiB);
    TARN_LIFE_REQUIRE(Is("TARN_MEMORY_LIMIT", "512MiB", TARN_SOURCE_API));
    TARN_LIFE_REQUIRE(Is("TARN_POOL_OBJECTS", "4096", TARN_SOURCE_PRESET));
    TARN_LIFE_REQUIRE(PoolBound() > usual_bound);

    TARN_LIFE_REQUIRE(tarn::SetPreset("off"));
    TARN_LIFE_REQUIRE(Is("TARN_POOL_OBJECTS", "1024", TARN_SOURCE_DEFAULT));
    // A development's statistics at the end are not wanted any more: the child's stderr stays empty.
  });
}

TEST(Preset, ChosenAgainAndAgainTakesNoMoreDescriptors) {
  ExpectGoodEnd(kBodySeconds, [] {
    const auto open_descriptors = [] {
      int count = 0;
      for (int fd = 0; fd < 1024; ++fd) count += fcntl(fd, F_GETFD) >= 0;
      return count;
    };
    // Statistics at the end keep a copy of stderr.
    TARN_LIFE_REQUIRE(tarn::SetPreset("development"));
    const int before = open_descriptors();
    for (int i = 0; i < 200; ++i) TARN_LIFE_REQUIRE(tarn::SetPreset(i % 2 == 0 ? "staging" : "development"));
    TARN_LIFE_REQUIRE(open_descriptors() == before);
    TARN_LIFE_REQUIRE(tarn::SetPreset("off"));
  });
}

TEST(Preset, OfNoSuchNameChangesNothing) {
  ExpectGoodEnd(kBodySeconds, [] {
    for (const char* name : {"", "prod", "PRODUCTION", static_cast<const char*>(nullptr)}) {
      errno = 0;
      TARN_LIFE_REQUIRE(tarn_set_preset(name) == -1 && errno == EINVAL);
    }
    TARN_LIFE_REQUIRE(std::string_view(tarn_preset()) == "off");
    TARN_LIFE_REQUIRE(tarn_profile_rate() == 512 << 10);
  });
}

void Sleep(double seconds) {
  timespec time = {static_cast<time_t>(seconds),
                   static_cast<long>((seconds - static_cast<double>(static_cast<time_t>(seconds))) * 1e9)};
  while (nanosleep(&time, &time) != 0 && errno == EINTR) {
  }
}

TEST(Preset, SetsHowLongMemoryStays) {
  ExpectGoodEnd(kBodySeconds, [] {
    ParkAThread();
    constexpr size_t kBytes = 64 * kMiB;
    TARN_LIFE_REQUIRE(tarn::SetPreset("production"));
    std::vector<char*> objects(kBytes / 4096);
    for (char*& object : objects) {
      object = static_cast<char*>(malloc(4096));
      memset(object, 1, 4096);
    }
    const double start = Seconds();
    for (char* object : objects) free(object);
    // By default it would be back after three seconds at the latest. Now it may be back after five, if a busy machine
    // lets the test sleep for so long.
    Sleep(3.5);
    const bool stayed = tarn::LimitStats().scavenger_released_bytes < kBytes / 4;
    TARN_LIFE_REQUIRE(stayed || Seconds() - start > 4.5);
    TARN_LIFE_REQUIRE(tarn::SetPreset("development"));
    // A quiet machine needs less than two seconds.
    while (tarn::LimitStats().scavenger_released_bytes < kBytes / 4 * 3 && Seconds() < start + kPatienceSeconds) {
      Sleep(0.05);
    }
    TARN_LIFE_REQUIRE(tarn::LimitStats().scavenger_released_bytes >= kBytes / 4 * 3);
    TARN_LIFE_REQUIRE(tarn::SetPreset("off"));
  });
}

}  // namespace
}  // namespace tarn_test
