// SPDX-License-Identifier: Apache-2.0
//
// An allocator where memory or mappings are scarce.
//
//   memory_limits CASE
//
//   threads     200 MB of RLIMIT_AS and 8 threads: everything that fits is served
//   exhaust     near a limit of 300 MB: allocate until null, free all, allocate
//               again, with other sizes: the same amount is served every time
//   mappings    the process has used up all its mappings (vm.max_map_count):
//               small allocations are served wherever memory is available
//
// The limits are set before the program is executed a second time, so that they
// hold from the allocator's start on. If TARN_LIB is set, that second run has it
// preloaded, and fails if malloc does not come from there.
//
// Exit code 0 if the case holds, 1 if not, 77 if it cannot be tried here.

#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <string_view>

#include "tests/stress/malloc_library.h"
#include "tests/stress/pattern.h"

namespace tarn_test {
namespace {

constexpr std::uint64_t kKey = 0x11A17511A1751175U;
constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = 1024 * kKiB;
constexpr int kSkipped = 77;

template <typename... Args>
[[noreturn]] void Fail(const char* format, Args... args) {
  std::printf("FAILED: ");
  std::printf(format, args...);
  std::printf("\n");
  std::fflush(stdout);
  _exit(1);
}

// Address space in use, from the kernel, without allocating anything.
std::size_t VirtualBytes() {
  std::FILE* const file = std::fopen("/proc/self/statm", "r");
  unsigned long pages = 0;
  if (file == nullptr || std::fscanf(file, "%lu", &pages) != 1) Fail("cannot read /proc/self/statm");
  std::fclose(file);
  return pages * static_cast<std::size_t>(getpagesize());
}

std::size_t LogUniform(Random& random, double low, double high) {
  const double u = static_cast<double>(random.Below(1U << 24)) / (1U << 24);
  return static_cast<std::size_t>(low * std::pow(high / low, u));
}

// ---------------------------------------------------------------------------
// threads

constexpr std::size_t kThreadsLimitBytes = 200 * 1000 * 1000;
constexpr std::size_t kThreadCount = 8;
// Each thread keeps at most this much alive: 64 MiB of 190 for all of them. The
// rest is for stacks, libraries and what the allocator cannot use.
constexpr std::size_t kLivePerThreadBytes = 8 * kMiB;
constexpr std::size_t kObjectsPerThread = 4000;
constexpr std::size_t kThreadOperations = 60000;

std::atomic<std::uint64_t> next_id{1};

struct Object {
  void* address = nullptr;
  Pattern pattern;
};

void* RunLimitedThread(void* argument) {
  static std::array<std::array<Object, kObjectsPerThread>, kThreadCount> all_objects;
  const auto number = reinterpret_cast<std::uintptr_t>(argument);
  std::array<Object, kObjectsPerThread>& objects = all_objects[number];
  Random random(number);
  std::size_t live_bytes = 0;
  const auto drop = [&](Object& object) {
    if (object.address == nullptr) return;
    std::uint64_t bytes = 0;
    if (CheckPattern(kKey, object.pattern, object.address, object.pattern.size_bytes, bytes).found) {
      Fail("object %p of %zu bytes was overwritten", object.address, object.pattern.size_bytes);
    }
    std::free(object.address);
    live_bytes -= object.pattern.size_bytes;
    object = Object{};
  };
  for (std::size_t i = 0; i < kThreadOperations; ++i) {
    Object& object = objects[random.Below(kObjectsPerThread)];
    drop(object);
    const std::size_t size =
        random.OneIn(50) ? LogUniform(random, 32 * kKiB, 512 * kKiB) : LogUniform(random, 8, 8 * kKiB);
    if (live_bytes + size > kLivePerThreadBytes) continue;
    object.address = random.OneIn(2) ? std::malloc(size) : std::calloc(size, 1);
    if (object.address == nullptr) {
      Fail("malloc of %zu bytes failed (%s) with %zu KiB live in this thread", size, std::strerror(errno),
           live_bytes / kKiB);
    }
    object.pattern = {next_id++, size, true};
    WritePattern(kKey, object.pattern, object.address);
    live_bytes += size;
  }
  for (Object& object : objects) drop(object);
  return nullptr;
}

int RunThreads() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  // The usual 8 MiB of address space for each stack is a third of the limit.
  pthread_attr_setstacksize(&attributes, 256 * kKiB);
  std::array<pthread_t, kThreadCount> threads;
  for (std::size_t i = 0; i < kThreadCount; ++i) {
    const int error = pthread_create(&threads[i], &attributes, RunLimitedThread,
                                     reinterpret_cast<void*>(static_cast<std::uintptr_t>(i)));
    if (error != 0) Fail("thread %zu cannot be started: %s", i, std::strerror(error));
  }
  const std::size_t virtual_bytes = VirtualBytes();
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  std::printf("threads: ok: %zu threads within %zu MiB of address space (%zu in use after their start)\n", kThreadCount,
              kThreadsLimitBytes / kMiB, virtual_bytes / kMiB);
  return 0;
}

// ---------------------------------------------------------------------------
// exhaust

constexpr std::size_t kExhaustLimitBytes = 300 * kMiB;
// Of the address space that is left at the start, this much must be served, as
// objects of one size. The rest goes to metadata, and to the ends of reservations
// where none of the largest objects fits (chosen; glibc serves 44 % of 10 MiB).
constexpr std::size_t kServedPercent = 60;
// Of what the same size got the first time, this much must be served again.
constexpr std::size_t kServedAgainPercent = 90;

// The objects hold their own list, since no container could grow here.
struct Link {
  Link* next;
  std::size_t size_bytes;
};

// Allocates objects of size_bytes until there is null, frees all of them, and
// returns how many bytes were served. 0 stands for a mix of sizes.
std::size_t Exhaust(std::size_t size_bytes) {
  Random random(size_bytes);
  Link* list = nullptr;
  std::size_t served_bytes = 0;
  for (;;) {
    const std::size_t size = size_bytes != 0 ? size_bytes : LogUniform(random, 32, 256 * kKiB);
    errno = 0;
    void* const object = std::malloc(size);
    if (object == nullptr) {
      if (errno != ENOMEM) Fail("null with errno %d instead of ENOMEM", errno);
      break;
    }
    list = new (object) Link{list, size};
    // Memory that was promised must be there when it is written.
    std::memset(static_cast<char*>(object) + sizeof(Link), 0x5A, size - sizeof(Link));
    served_bytes += size;
  }
  while (list != nullptr) {
    Link* const next = list->next;
    const auto* const bytes = reinterpret_cast<const unsigned char*>(list);
    for (std::size_t i = sizeof(Link); i < list->size_bytes; i += 509) {
      if (bytes[i] != 0x5A) Fail("an object of %zu bytes was overwritten", list->size_bytes);
    }
    std::free(list);
    list = next;
  }
  return served_bytes;
}

int RunExhaust() {
  const std::size_t at_start = VirtualBytes();
  const std::size_t left = kExhaustLimitBytes - std::min(at_start, kExhaustLimitBytes);
  const std::array<std::size_t, 6> sizes = {64, kMiB, 0, 4 * kKiB, 100 * kKiB, 10 * kMiB};
  std::array<std::size_t, sizes.size()> first{};
  bool good = true;
  std::printf("exhaust: %zu MiB of address space, %zu left at the start\n", kExhaustLimitBytes / kMiB, left / kMiB);
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const std::size_t served = Exhaust(sizes[i]);
      if (round == 0) first[i] = served;
      const bool enough = served >= left / 100 * kServedPercent && served >= first[i] / 100 * kServedAgainPercent;
      std::printf("  round %d, objects of %8zu bytes%s: %zu MiB served%s\n", round + 1, sizes[i],
                  sizes[i] == 0 ? " (mixed)" : "        ", served / kMiB, enough ? "" : ": too little");
      good = good && enough;
    }
  }
  std::printf("exhaust: %s\n", good ? "ok" : "FAILED");
  return good ? 0 : 1;
}

// ---------------------------------------------------------------------------
// mappings

constexpr std::size_t kSmallAllocations = 200000;
constexpr std::size_t kRequiredPercent = 99;
// A system that allows many more mappings than usual would need gigabytes of
// kernel memory for this.
constexpr std::size_t kMostMappings = 1200000;

std::size_t MaxMapCount() {
  std::FILE* const file = std::fopen("/proc/sys/vm/max_map_count", "r");
  std::size_t count = 0;
  if (file == nullptr || std::fscanf(file, "%zu", &count) != 1) count = SIZE_MAX;
  if (file != nullptr) std::fclose(file);
  return count;
}

std::array<Object, kSmallAllocations> small_objects;

bool AllocateSmall(Object& object, Random& random) {
  const std::size_t size = LogUniform(random, 8, 2 * kKiB);
  object.address = std::malloc(size);
  if (object.address == nullptr) return false;
  object.pattern = {next_id++, size, true};
  WritePattern(kKey, object.pattern, object.address);
  return true;
}

void FreeChecked(Object& object) {
  if (object.address == nullptr) return;
  std::uint64_t bytes = 0;
  if (CheckPattern(kKey, object.pattern, object.address, object.pattern.size_bytes, bytes).found) {
    Fail("object %p of %zu bytes was overwritten", object.address, object.pattern.size_bytes);
  }
  std::free(object.address);
  object = Object{};
}

int RunMappings() {
  const std::size_t limit = MaxMapCount();
  if (limit > kMostMappings) {
    std::printf("skipped: vm.max_map_count is %zu\n", limit);
    return kSkipped;
  }
  // A process that has been at work, not a fresh one: the addresses of new memory are a mapping, those of memory that
  // was there before are not.
  Random random(1);
  for (Object& object : small_objects) {
    if (!AllocateSmall(object, random)) Fail("null at the start");
  }
  for (std::size_t i = 0; i < kSmallAllocations; ++i) {
    if (i >= 4000 || i % 2 == 0) FreeChecked(small_objects[i]);
  }

  // Neighbours of different protection stay mappings of their own. Their
  // addresses are kept in the last of them, which is large enough for it.
  const auto page_bytes = static_cast<std::size_t>(getpagesize());
  void* const table =
      mmap(nullptr, (limit + 1) * sizeof(void*), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (table == MAP_FAILED) Fail("mmap: %s", std::strerror(errno));
  auto* const pages = static_cast<void**>(table);
  std::size_t page_count = 0;
  for (; page_count < limit; ++page_count) {
    pages[page_count] = mmap(nullptr, page_bytes, page_count % 2 == 0 ? PROT_NONE : PROT_READ,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages[page_count] == MAP_FAILED) break;
  }
  if (page_count == limit) Fail("the mappings cannot be used up: %zu are not enough", page_count);

  std::size_t served = 0;
  for (Object& object : small_objects) {
    if (object.address == nullptr && !AllocateSmall(object, random)) {
      if (errno != ENOMEM) Fail("null with errno %d instead of ENOMEM", errno);
      continue;
    }
    ++served;
  }
  const double percent = 100.0 * static_cast<double>(served) / kSmallAllocations;
  std::printf("mappings: %zu mappings of one page; %zu of %zu small allocations served (%.1f %%)\n", page_count, served,
              kSmallAllocations, percent);
  // Freeing works without mappings, too, and so does what is freed.
  for (Object& object : small_objects) FreeChecked(object);
  std::size_t again = 0;
  for (std::size_t i = 0; i < served / 2; ++i) {
    if (AllocateSmall(small_objects[i], random)) ++again;
  }
  std::printf("mappings: %zu of %zu served again after all were freed\n", again, served / 2);
  for (std::size_t i = 0; i < page_count; ++i) munmap(pages[i], page_bytes);
  for (Object& object : small_objects) FreeChecked(object);
  void* const large = std::malloc(64 * kMiB);
  if (large == nullptr) Fail("no 64 MiB available after the mappings were given back");
  std::free(large);
  const bool good =
      served * 100 >= kSmallAllocations * kRequiredPercent && again * 100 >= served / 2 * kRequiredPercent;
  std::printf("mappings: %s\n", good ? "ok" : "FAILED");
  return good ? 0 : 1;
}

// ---------------------------------------------------------------------------

struct Case {
  std::string_view name;
  std::size_t limit_bytes;  // RLIMIT_AS, or 0 for none.
  int (*run)();
};

constexpr std::array<Case, 3> kCases = {{
    {"threads", kThreadsLimitBytes, RunThreads},
    {"exhaust", kExhaustLimitBytes, RunExhaust},
    {"mappings", 0, RunMappings},
}};

// Fails if something is preloaded and malloc comes from elsewhere.
void CheckLibrary() {
  const char* const library = std::getenv("LD_PRELOAD");
  if (library != nullptr && std::strcmp(LibraryOfMalloc(), library) != 0) {
    Fail("malloc comes from %s, not from %s", LibraryOfMalloc(), library);
  }
}

int Main(int argc, char** argv) {
  const std::string_view name = argc > 1 ? argv[1] : "";
  const auto* const found = std::find_if(kCases.begin(), kCases.end(), [&](const Case& c) { return c.name == name; });
  if (found == kCases.end()) {
    std::fprintf(stderr, "usage: memory_limits threads|exhaust|mappings\n");
    return 2;
  }
  if (argc > 2) {
    CheckLibrary();
    return found->run();
  }
  if (found->limit_bytes != 0) {
    const rlimit limit = {found->limit_bytes, found->limit_bytes};
    if (setrlimit(RLIMIT_AS, &limit) != 0) {
      std::perror("memory_limits: setrlimit");
      return kSkipped;
    }
  }
  if (const char* const library = std::getenv("TARN_LIB"); library != nullptr) {
    setenv("LD_PRELOAD", library, 1);
    // The names TARN_* belong to the library's settings; this is none of them.
    unsetenv("TARN_LIB");
    unsetenv("TARN_BUILD");
  }
  char limited[] = "--limited";
  char* const arguments[] = {argv[0], argv[1], limited, nullptr};
  execv("/proc/self/exe", arguments);
  std::perror("memory_limits: exec");
  return 1;
}

}  // namespace
}  // namespace tarn_test

int main(int argc, char** argv) { return tarn_test::Main(argc, argv); }
