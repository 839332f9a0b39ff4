// SPDX-License-Identifier: Apache-2.0
//
// A program that knows nothing of tarn, in a container that is not much larger than what it has live: it must not be
// killed. By default tarn reads the container's limit once, early, so each body is a program of its own: this one, run
// again inside of a memory cgroup.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/stat.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

constexpr double kBodySeconds = 2 * kPatienceSeconds;

// --- The programs --------------------------------------------------------------------------------------------------

// Runs a function in that many threads, or as many as there can be, reports their number, and waits for their end.
template <typename Body, typename Tell>
void InThreads(int count, const Body& body, const Tell& tell) {
  std::vector<pthread_t> threads;
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    const auto run = [](void* argument) -> void* {
      (*static_cast<const Body*>(argument))();
      return nullptr;
    };
    if (pthread_create(&thread, nullptr, run, const_cast<Body*>(&body)) != 0) break;
    threads.push_back(thread);
  }
  tell(static_cast<int>(threads.size()));
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
}

// Large objects of many sizes that replace each other. `live_bytes` by all threads; beside them a block of which hardly
// anything is touched.
void ReplaceLargeObjects(int threads, size_t live_bytes) {
  auto* const sparse = static_cast<char*>(malloc(128 * kMiB));
  TARN_LIFE_REQUIRE(sparse != nullptr);
  sparse[0] = 1;
  std::atomic<unsigned> seed = 1;
  InThreads(
      threads,
      [&] {
        std::minstd_rand random(seed.fetch_add(1));
        std::vector<std::pair<char*, size_t>> objects;
        size_t bytes = 0;
        const auto remove = [&](size_t index) {
          std::swap(objects[index], objects.back());
          bytes -= objects.back().second;
          free(objects.back().first);
          objects.pop_back();
        };
        for (int i = 0; i < 1200 / threads; ++i) {
          const size_t size = 200'000 + random() % 4'000'000;
          while (!objects.empty() && bytes + size > live_bytes / static_cast<size_t>(threads)) {
            remove(random() % objects.size());
          }
          auto* const object = static_cast<char*>(malloc(size));
          TARN_LIFE_REQUIRE(object != nullptr);
          memset(object, 1, size);
          objects.emplace_back(object, size);
          bytes += size;
        }
        while (!objects.empty()) remove(0);
      },
      [](int) {});
  free(sparse);
}

// 121 MB in threads that are all there before the first ends.
void StartThreadsTogether() {
  std::atomic<int> ready = 0;
  std::atomic<bool> all = false;
  const auto work = [&] {
    std::vector<char*> objects(100);
    for (char*& object : objects) {
      object = static_cast<char*>(malloc(1210));
      TARN_LIFE_REQUIRE(object != nullptr);
      memset(object, 1, 1210);
    }
    ready.fetch_add(1);
    while (!all.load()) Sleep(10'000);
    for (char* object : objects) free(object);
  };
  InThreads(1000, work, [&](int count) {
    while (ready.load() != count) Sleep(1000);
    all.store(true);
  });
}

TEST(Program, DISABLED_ReplacesLargeObjectsInTwoThreads) { ReplaceLargeObjects(2, 26 * kMiB); }
TEST(Program, DISABLED_ReplacesLargeObjectsInEightThreads) { ReplaceLargeObjects(8, 26 * kMiB); }
TEST(Program, DISABLED_ReplacesMoreLargeObjects) { ReplaceLargeObjects(2, 88 * kMiB); }
TEST(Program, DISABLED_StartsThreadsTogether) { StartThreadsTogether(); }

// --- Their container -----------------------------------------------------------------------------------------------

bool WriteTo(const std::string& path, const std::string& text) {
  const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool written = file >= 0 && write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (file >= 0) close(file);
  return written;
}

// A memory cgroup, of the first version or of the second, where one can be made.
class Container {
 public:
  explicit Container(size_t bytes) {
    const std::string name = "/tarn_test_" + std::to_string(getpid());
    const std::string limit = std::to_string(bytes);
    if (Make("/sys/fs/cgroup/memory" + name) && WriteTo(group_ + "/memory.limit_in_bytes", limit)) {
      WriteTo(group_ + "/memory.memsw.limit_in_bytes", limit);
      made_ = true;
      return;
    }
    Remove();
    WriteTo("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
    if (Make("/sys/fs/cgroup" + name) && WriteTo(group_ + "/memory.max", limit)) {
      WriteTo(group_ + "/memory.swap.max", "0");
      made_ = true;
      return;
    }
    Remove();
  }
  ~Container() { Remove(); }
  Container(const Container&) = delete;
  Container& operator=(const Container&) = delete;

  bool made() const { return made_; }
  // Empty when the program ended well.
  std::string Run(const char* program) const {
    const std::string filter = std::string("--gtest_filter=Program.DISABLED_") + program;
    return InChild(kBodySeconds, [&] {
      TARN_LIFE_REQUIRE(WriteTo(group_ + "/cgroup.procs", std::to_string(getpid())));
      execl("/proc/self/exe", "program", filter.c_str(), "--gtest_also_run_disabled_tests", "--gtest_brief=1", nullptr);
      _exit(126);
    });
  }

 private:
  bool Make(const std::string& path) {
    group_ = path;
    return mkdir(path.c_str(), 0755) == 0;
  }
  void Remove() {
    // A process that ended may be in the group for a moment still.
    const double deadline = Seconds() + kPatienceSeconds;
    while (rmdir(group_.c_str()) != 0 && errno == EBUSY && Seconds() < deadline) Sleep(1000);
  }

  std::string group_;
  bool made_ = false;
};

void ExpectAliveIn(size_t bytes, const char* program) {
  const Container container(bytes);
  if (!container.made()) GTEST_SKIP() << "no memory cgroup can be made here";
  EXPECT_EQ(container.Run(program), "");
}

TEST(Container, OfTwiceTheLiveBytesIsEnough) { ExpectAliveIn(64 * kMiB, "ReplacesLargeObjectsInTwoThreads"); }
TEST(Container, OfTwiceTheLiveBytesIsEnoughForManyThreads) {
  ExpectAliveIn(64 * kMiB, "ReplacesLargeObjectsInEightThreads");
}
TEST(Container, OfHalfAsMuchAgainAsTheLiveBytesIsEnough) { ExpectAliveIn(132 * kMiB, "ReplacesMoreLargeObjects"); }
// Half of what is not live goes to the kernel's and the threads' own stacks.
TEST(Container, OfTwoThirdsMoreIsEnoughForThreadsThatStartTogether) {
  ExpectAliveIn(200 * kMiB, "StartsThreadsTogether");
}

}  // namespace
}  // namespace tarn_test
