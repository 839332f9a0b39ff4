// SPDX-License-Identifier: Apache-2.0
//
// The program that fault_injector runs: allocates and frees in all ways, takes
// null for an answer, and sees to it that nothing else goes wrong.
//
//   fault_workload [--strict-errno]
//
// Between the two marks any memory system call may fail. There, an allocation
// may return null, if errno says ENOMEM; what it returns is aligned, as
// large as asked for and nobody else's. calloc's bytes are zero, a failed
// realloc leaves its object as it was, and free keeps errno. After the second
// mark nothing fails any more, and every allocation must succeed again.
// --strict-errno adds what only tarn promises: that an allocation which
// succeeds leaves errno alone, whatever failed inside.
//
// If a library is preloaded, malloc must come from there.
//
// Exit code 0 if all of that holds. All bookkeeping is in static arrays, because
// a container's memory may be refused as well.

#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <string_view>

#include "tests/faults/marker.h"
#include "tests/stress/malloc_library.h"
#include "tests/stress/pattern.h"

namespace tarn_test {
namespace {

constexpr std::uint64_t kKey = 0x5EED5EED5EED5EEDU;
constexpr std::size_t kKiB = 1024;
constexpr std::size_t kMiB = 1024 * kKiB;
// The errno before each call; no call of this program yields it.
constexpr int kUntouchedErrno = EOWNERDEAD;

bool strict_errno = false;
std::atomic<bool> faults_possible{false};
std::atomic<std::uint64_t> next_id{1};
std::atomic<std::size_t> nulls{0};
std::atomic<std::size_t> served{0};

[[noreturn]] void Fail(const char* call, std::size_t size_bytes, const char* what) {
  char line[512];
  const int length =
      std::snprintf(line, sizeof line, "fault_workload: FAILED: %s of %zu bytes: %s\n", call, size_bytes, what);
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line, static_cast<std::size_t>(length));
  std::abort();
}

struct Object {
  void* address = nullptr;
  Pattern pattern;
  enum class Family { kMalloc, kNew, kAlignedNew } family = Family::kMalloc;
  std::size_t alignment = alignof(std::max_align_t);
};

void Verify(const Object& object, std::size_t limit_bytes, const char* when) {
  std::uint64_t bytes = 0;
  const Mismatch mismatch = CheckPattern(kKey, object.pattern, object.address, limit_bytes, bytes);
  if (mismatch.found) {
    char what[384];
    DescribeMismatch(kKey, object.pattern, mismatch, next_id.load(), what, sizeof what);
    Fail(when, object.pattern.size_bytes, what);
  }
}

// Judges what a call returned. Returns false for a null that is allowed.
bool Accept(const char* call, Object& object, std::size_t size_bytes, int error) {
  if (object.address == nullptr) {
    if (!faults_possible.load()) Fail(call, size_bytes, "null, though no system call fails");
    if (error != ENOMEM) Fail(call, size_bytes, "null, and the error is not ENOMEM");
    ++nulls;
    return false;
  }
  if (strict_errno && error != kUntouchedErrno) Fail(call, size_bytes, "errno changed by a call that succeeded");
  if (reinterpret_cast<std::uintptr_t>(object.address) % object.alignment != 0) Fail(call, size_bytes, "misaligned");
  ++served;
  object.pattern = {next_id++, size_bytes, size_bytes <= kFullyWrittenBytes};
  WritePattern(kKey, object.pattern, object.address);
  return true;
}

// operator new promises no more than an object of the size can need.
std::size_t AlignmentOfNew(std::size_t size_bytes) { return size_bytes <= 8 ? 8 : alignof(std::max_align_t); }

constexpr std::uint64_t kWayCount = 8;

bool Allocate(Object& object, std::size_t size, std::uint64_t way, std::size_t alignment) {
  object = Object{};
  const char* call = "malloc";
  errno = kUntouchedErrno;
  int error = 0;
  switch (way % kWayCount) {
    case 0:
      object.address = std::malloc(size);
      break;
    case 1:
      call = "calloc";
      object.address = std::calloc(1, size);
      error = errno;
      if (object.address != nullptr && FirstNonZero(object.address, size) != size) {
        Fail(call, size, "not all bytes are zero");
      }
      errno = error;
      error = 0;
      break;
    case 2:
      call = "realloc of null";
      object.address = std::realloc(nullptr, size);
      break;
    case 3:
      call = "aligned_alloc";
      object.alignment = alignment;
      size = (size + alignment - 1) & ~(alignment - 1);
      object.address = std::aligned_alloc(alignment, size);
      break;
    case 4:
      call = "posix_memalign";
      object.alignment = alignment;
      error = posix_memalign(&object.address, alignment, size);
      if (error != 0) object.address = nullptr;
      break;
    case 5:
      call = "operator new";
      object.family = Object::Family::kNew;
      object.alignment = AlignmentOfNew(size);
      try {
        object.address = ::operator new(size);
      } catch (const std::bad_alloc&) {
        errno = ENOMEM;
      }
      break;
    case 6:
      call = "nothrow operator new";
      object.family = Object::Family::kNew;
      object.alignment = AlignmentOfNew(size);
      object.address = ::operator new(size, std::nothrow);
      // The standard does not mention errno here.
      if (object.address == nullptr) errno = ENOMEM;
      break;
    default:
      call = "aligned operator new";
      object.family = Object::Family::kAlignedNew;
      object.alignment = alignment;
      try {
        object.address = ::operator new(size, std::align_val_t(alignment));
      } catch (const std::bad_alloc&) {
        errno = ENOMEM;
      }
      break;
  }
  return Accept(call, object, size, error != 0 ? error : errno);
}

void Free(Object& object) {
  if (object.address == nullptr) return;
  Verify(object, object.pattern.size_bytes, "before the free");
  errno = kUntouchedErrno;
  switch (object.family) {
    case Object::Family::kMalloc:
      std::free(object.address);
      break;
    case Object::Family::kNew:
      ::operator delete(object.address);
      break;
    case Object::Family::kAlignedNew:
      ::operator delete(object.address, std::align_val_t(object.alignment));
      break;
  }
  if (object.family == Object::Family::kMalloc && errno != kUntouchedErrno) {
    Fail("free", object.pattern.size_bytes, "errno changed");
  }
  object = Object{};
}

void Resize(Object& object, std::size_t size) {
  if (object.address == nullptr || object.family != Object::Family::kMalloc) return;
  const std::size_t kept = std::min(object.pattern.size_bytes, size);
  errno = kUntouchedErrno;
  void* const moved = std::realloc(object.address, size);
  const int error = errno;
  if (moved == nullptr) {
    Object none;
    Accept("realloc", none, size, error);
    Verify(object, object.pattern.size_bytes, "after a failed realloc");
    return;
  }
  object.address = moved;
  Verify(object, kept, "after a realloc");
  object.alignment = alignof(std::max_align_t);
  Accept("realloc", object, size, error);
}

// ---------------------------------------------------------------------------

constexpr std::size_t kSmallCount = 1500;
std::array<Object, kSmallCount> small;
constexpr std::size_t kLargeCount = 16;
std::array<Object, kLargeCount> large;

std::size_t SmallSize(Random& random) { return 1 + (random.Below(48 * kKiB) >> random.Below(12)); }

// Many small objects, two thirds of them freed in random order, then as many
// again: spans are made, emptied, and used for other sizes.
void UseSmall(Random& random) {
  for (Object& object : small) {
    if (object.address == nullptr) Allocate(object, SmallSize(random), random.Next(), 16U << random.Below(9));
  }
  for (std::size_t i = 0; i < kSmallCount / 3 * 2; ++i) Free(small[random.Below(kSmallCount)]);
  for (std::size_t i = 0; i < kSmallCount / 4; ++i) Resize(small[random.Below(kSmallCount)], SmallSize(random));
  for (Object& object : small) {
    if (object.address == nullptr) Allocate(object, SmallSize(random), random.Next(), 16U << random.Below(9));
  }
}

// Objects of 200 KiB to 16 MiB, few, because a run is mostly page faults: fresh, reused, zeroed, resized in both
// directions, and with alignments up to 64 MiB.
void UseLarge(Random& random) {
  for (std::size_t i = 0; i < kLargeCount; ++i) {
    const std::size_t size = (200 * kKiB << random.Below(4)) + random.Below(100 * kKiB);
    Allocate(large[i], size, i, std::size_t{4096} << random.Below(10));
  }
  for (std::size_t i = 0; i < kLargeCount; i += 2) Free(large[i]);
  for (std::size_t i = 1; i < kLargeCount; i += 4) Resize(large[i], large[i].pattern.size_bytes * 2 + 5000);
  for (std::size_t i = 1; i < kLargeCount; i += 4) Resize(large[i], large[i].pattern.size_bytes / 3 + 1);
  for (std::size_t i = 0; i < kLargeCount; i += 2) {
    // Once more with calloc, over memory that was in use.
    Allocate(large[i], 300 * kKiB + random.Below(1 * kMiB), 1, 16);
  }
  Object growing;
  Allocate(growing, 128 * kKiB, 0, 16);
  for (std::size_t size = 1 * kMiB; size <= 7 * kMiB; size += 2 * kMiB) Resize(growing, size);
  Resize(growing, 1500 * kKiB);
  // Once more with something in the way at each step, and back again.
  std::array<Object, 4> obstacles;
  for (std::size_t i = 0; i < obstacles.size(); ++i) {
    Allocate(obstacles[i], 5 * kMiB, 0, 16);
    // Advice for a part makes it a mapping of its own.
    if (growing.address != nullptr && growing.pattern.size_bytes >= 3 * kMiB) {
      const auto page_bytes = static_cast<std::uintptr_t>(getpagesize());
      const std::uintptr_t page = (reinterpret_cast<std::uintptr_t>(growing.address) + kMiB) / page_bytes * page_bytes;
      madvise(reinterpret_cast<void*>(page), 3 * page_bytes, MADV_DONTDUMP);
    }
    Resize(growing, (3 << i) * kMiB);
  }
  Resize(growing, 5 * kMiB);
  Resize(growing, 12 * kMiB);
  for (Object& obstacle : obstacles) Free(obstacle);
  Free(growing);
  Object aligned;
  for (const std::size_t alignment : {2 * kMiB, 16 * kMiB, 64 * kMiB}) {
    Allocate(aligned, 100 * kKiB, 4, alignment);
    Free(aligned);
  }
  Object huge;
  Allocate(huge, 6 * kMiB, 1, 16);
  Free(huge);
}

// Objects so large that an allocator asks the system for each of them. Only
// their ends are written: it is about addresses. They may be refused at any
// time, because a small machine has no such memory to promise.
void UseGiants() {
  constexpr std::size_t kGiB = 1024 * kMiB;
  const auto touch = [](void* object, std::size_t size) {
    static_cast<volatile char*>(object)[0] = 1;
    static_cast<volatile char*>(object)[size - 1] = 2;
  };
  errno = kUntouchedErrno;
  if (void* const object = std::malloc(kGiB + 5 * kMiB); object != nullptr) {
    touch(object, kGiB + 5 * kMiB);
    std::free(object);
  } else if (errno != ENOMEM) {
    Fail("malloc", kGiB, "null, and the error is not ENOMEM");
  }
  for (const std::size_t alignment : {256 * kMiB, kGiB, 4 * kGiB}) {
    void* object = nullptr;
    const int error = posix_memalign(&object, alignment, 3 * kMiB);
    if (error != 0 && error != ENOMEM) Fail("posix_memalign", 3 * kMiB, "the error is not ENOMEM");
    if (error != 0) continue;
    if (reinterpret_cast<std::uintptr_t>(object) % alignment != 0) Fail("posix_memalign", 3 * kMiB, "misaligned");
    touch(object, 3 * kMiB);
    std::free(object);
  }
}

// A few threads that free each other's objects.
constexpr std::size_t kThreadCount = 3;
constexpr std::size_t kPerThread = 600;
std::array<std::array<Object, kPerThread>, kThreadCount> shared_objects;
std::array<std::mutex, kThreadCount> mutexes;

void* RunThread(void* argument) {
  const auto number = reinterpret_cast<std::uintptr_t>(argument);
  Random random(number + 100);
  for (std::size_t i = 0; i < 2 * kPerThread; ++i) {
    const std::size_t whose = random.Below(kThreadCount);
    const std::lock_guard lock(mutexes[whose]);
    Object& object = shared_objects[whose][random.Below(kPerThread)];
    if (object.address == nullptr) {
      const std::size_t size = random.OneIn(100) ? 300 * kKiB : SmallSize(random);
      Allocate(object, size, random.Next(), 64);
    } else if (random.OneIn(4)) {
      Resize(object, SmallSize(random));
    } else {
      Free(object);
    }
  }
  return nullptr;
}

void UseThreads() {
  // Small stacks: libc keeps up to 40 MiB of them, and aborts by itself if it
  // cannot unmap one beyond that.
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * kKiB);
  std::array<pthread_t, kThreadCount> threads;
  std::array<bool, kThreadCount> started{};
  for (std::size_t i = 0; i < kThreadCount; ++i) {
    void* const number = reinterpret_cast<void*>(static_cast<std::uintptr_t>(i));
    // A stack may be refused as well; then the work is done here.
    started[i] = pthread_create(&threads[i], &attributes, RunThread, number) == 0;
    if (!started[i]) RunThread(number);
  }
  for (std::size_t i = 0; i < kThreadCount; ++i) {
    if (started[i]) pthread_join(threads[i], nullptr);
  }
  pthread_attr_destroy(&attributes);
}

void FreeAll() {
  for (Object& object : small) Free(object);
  for (Object& object : large) Free(object);
  for (auto& objects : shared_objects) {
    for (Object& object : objects) Free(object);
  }
}

// One round goes through everything and gives all memory back.
void DoRound(std::uint64_t seed) {
  Random random(seed);
  UseSmall(random);
  UseLarge(random);
  UseGiants();
  UseThreads();
  malloc_trim(0);
  UseSmall(random);
  FreeAll();
  malloc_trim(0);
}

int Main(int argc, char** argv) {
  strict_errno = argc > 1 && std::string_view(argv[1]) == "--strict-errno";
  const char* const library = std::getenv("LD_PRELOAD");
  if (library != nullptr && std::strcmp(LibraryOfMalloc(), library) != 0) {
    std::fprintf(stderr, "fault_workload: malloc comes from %s, not from %s\n", LibraryOfMalloc(), library);
    return 1;
  }
  faults_possible.store(true);
  SetMark(Mark::kBegin);
  DoRound(1);
  DoRound(2);
  SetMark(Mark::kEnd);
  faults_possible.store(false);
  const std::size_t refused = nulls.load();
  DoRound(3);
  std::printf("fault_workload: ok: %zu served, %zu refused\n", served.load(), refused);
  return 0;
}

}  // namespace
}  // namespace tarn_test

int main(int argc, char** argv) { return tarn_test::Main(argc, argv); }
