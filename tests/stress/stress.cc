// SPDX-License-Identifier: Apache-2.0
//
// A stress test for any malloc: many threads, every object's content verified.
//
// The program knows nothing about tarn. It uses the standard surface (malloc
// and its family, operator new and delete) and runs on whatever provides it:
// linked, preloaded, or libc's own. What must hold:
//
//   - each object is as large and as aligned as asked for, and no two live
//     objects share a byte: all carry a pattern of their own (pattern.h) that is
//     checked before they are resized, handed on or freed;
//   - calloc returns zeros, realloc keeps what it has to keep;
//   - all of that with more threads than CPUs, while threads die and start,
//     objects are freed by others than their makers, and, if asked for, children
//     are forked, signals rain, threads migrate and the heap is trimmed.
//
// The first violation is told in one message on stderr that begins with
// "stress: FAILED", and the process aborts. Otherwise it ends with a summary on
// stdout and exit code 0. `stress --help` lists the options.
//
// Lock order: a slot's mutex, then nothing; a mailbox's mutex, then nothing.
// Memory is allocated under a mailbox's mutex on purpose (a vector grows), so
// that forks find it held.

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cinttypes>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "tests/os/cpu_set.h"
#include "tests/stress/malloc_library.h"
#include "tests/stress/pattern.h"

// C23's sized frees are younger than the libc we build with, and not every
// allocator has them. The names are bound to the symbols weakly, so that both a
// header that declares them and a library that lacks them are fine.
extern "C" {
void OptionalFreeSized(void* object, std::size_t size) __asm__("free_sized") __attribute__((weak));
void OptionalFreeAlignedSized(void* object, std::size_t alignment, std::size_t size) __asm__("free_aligned_sized")
    __attribute__((weak));
}

namespace tarn_test {
namespace {

using Clock = std::chrono::steady_clock;

// ---------------------------------------------------------------------------
// Options

struct Options {
  double seconds = 10;
  std::uint64_t seed = 1;
  std::size_t threads = 32;
  std::size_t budget_bytes = std::size_t{512} << 20;  // Live bytes, about.
  std::size_t min_alignment = 16;
  bool forks = false;
  bool signals = false;
  bool affinity = false;
  bool trim = false;
  bool large = false;
  const char* library = nullptr;  // the name that malloc's file must have
};

Options options;
std::uint64_t pattern_key = 0;

// ---------------------------------------------------------------------------
// Counters. They lie in memory that forked children share, so that what a child
// did and verified is in the summary.

enum Call : std::size_t {
  kMalloc,
  kCalloc,
  kRealloc,
  kReallocarray,
  kReallocToZero,
  kAlignedAlloc,
  kPosixMemalign,
  kMemalign,
  kValloc,
  kNew,
  kNewArray,
  kNewNothrow,
  kNewAligned,
  kFree,
  kFreeSized,
  kFreeAlignedSized,
  kDelete,
  kDeleteSized,
  kDeleteAligned,
  kUsableSize,
  kCallCount,
};

constexpr std::array<const char*, kCallCount> kCallNames = {
    "malloc",        "calloc",        "realloc",        "reallocarray",
    "realloc(p, 0)", "aligned_alloc", "posix_memalign", "memalign",
    "valloc",        "new",           "new[]",          "new nothrow",
    "new aligned",   "free",          "free_sized",     "free_aligned_sized",
    "delete",        "delete sized",  "delete aligned", "malloc_usable_size"};

struct Counters {
  std::array<std::atomic<std::uint64_t>, kCallCount> calls{};
  std::atomic<std::uint64_t> objects_verified{};
  std::atomic<std::uint64_t> bytes_verified{};
  std::atomic<std::uint64_t> zero_bytes_verified{};
  std::atomic<std::uint64_t> handed_over{};
  std::atomic<std::uint64_t> threads_started{};
  std::atomic<std::uint64_t> forks{};
  std::atomic<std::uint64_t> spawns{};
  std::atomic<std::uint64_t> signals{};
  std::atomic<std::uint64_t> migrations{};
  std::atomic<std::uint64_t> trims{};
};

Counters* counters = nullptr;

void Count(std::atomic<std::uint64_t>& counter, std::uint64_t by = 1) {
  counter.fetch_add(by, std::memory_order_relaxed);
}

// ---------------------------------------------------------------------------
// Failure

// Where this thread is, for the message of a failure.
thread_local std::uint64_t this_thread_number = 0;
thread_local std::uint64_t this_operation = 0;
thread_local bool in_child = false;

std::atomic<bool> failed{false};

[[noreturn]] void Fail(const char* what) {
  // Others that see the same damage a moment later would only bury the message.
  if (failed.exchange(true)) {
    for (;;) {
      pause();
    }
  }
  char line[1024];
  const int length =
      std::snprintf(line, sizeof line,
                    "stress: FAILED: %s (thread %" PRIu64 ", its operation %" PRIu64 ", %s %d, seed %" PRIu64 ")\n",
                    what, this_thread_number, this_operation, in_child ? "forked child" : "process",
                    static_cast<int>(getpid()), options.seed);
  if (length > 0) {
    const auto wanted = std::min(static_cast<std::size_t>(length), sizeof line - 1);
    // Nothing is left to do if stderr is gone.
    [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, line, wanted);
  }
  std::abort();
}

template <typename... Args>
[[noreturn]] void FailF(const char* format, Args... args) {
  char what[768];
  std::snprintf(what, sizeof what, format, args...);
  Fail(what);
}

// ---------------------------------------------------------------------------
// Objects

std::atomic<std::uint64_t> next_id{1};

std::uint64_t NewId() {
  // Blocks of ids keep the threads off one counter. Ids stay below 2^48 (see
  // pattern.h) for longer than any run.
  constexpr std::uint64_t kBlock = 1024;
  thread_local std::uint64_t id = 0;
  thread_local std::uint64_t end = 0;
  if (id == end) {
    id = next_id.fetch_add(kBlock, std::memory_order_relaxed);
    end = id + kBlock;
  }
  return id++;
}

struct Object {
  void* address = nullptr;
  std::size_t requested_bytes = 0;
  std::size_t alignment = 0;  // as asked for, or as the call promises
  Call origin = kMalloc;
  Pattern pattern;
};

[[noreturn]] void FailObject(const Object& object, const char* when, const char* what) {
  FailF("object %" PRIu64 " at %p, %zu bytes from %s, alignment %zu, %s: %s", object.pattern.id, object.address,
        object.requested_bytes, kCallNames[object.origin], object.alignment, when, what);
}

// Checks the first limit_bytes of what was written into the object.
void Verify(const Object& object, std::size_t limit_bytes, const char* when) {
  std::uint64_t bytes = 0;
  const Mismatch mismatch = CheckPattern(pattern_key, object.pattern, object.address, limit_bytes, bytes);
  if (mismatch.found) {
    char what[384];
    DescribeMismatch(pattern_key, object.pattern, mismatch, next_id.load(), what, sizeof what);
    FailObject(object, when, what);
  }
  Count(counters->objects_verified);
  Count(counters->bytes_verified, bytes);
}

void Verify(const Object& object, const char* when) { Verify(object, object.pattern.size_bytes, when); }

// Checks address and alignment of a new object and writes its pattern.
void Adopt(Object& object, Random& random) {
  if (object.address == nullptr) {
    FailObject(object, "at its allocation", "returned null or threw");
  }
  if (reinterpret_cast<std::uintptr_t>(object.address) % object.alignment != 0) {
    FailObject(object, "at its allocation", "misaligned");
  }
  object.pattern.id = NewId();
  object.pattern.size_bytes = object.requested_bytes;
  const bool with_new = object.origin >= kNew && object.origin <= kNewAligned;
  if (!with_new && random.OneIn(4)) {
    // All that malloc_usable_size grants is the caller's; use it to the end.
    Count(counters->calls[kUsableSize]);
    const std::size_t usable = malloc_usable_size(object.address);
    if (usable < object.requested_bytes) {
      FailObject(object, "at its allocation", "malloc_usable_size is too small");
    }
    object.pattern.size_bytes = usable;
  }
  // One large object in sixteen is written in every byte.
  object.pattern.whole = object.pattern.size_bytes <= kFullyWrittenBytes || random.OneIn(16);
  WritePattern(pattern_key, object.pattern, object.address);
}

// ---------------------------------------------------------------------------
// Sizes and alignments

// Sizes whose logarithm is uniform in [low, high).
std::size_t LogUniform(Random& random, double low, double high) {
  const double u = static_cast<double>(random.Below(1U << 24)) / (1U << 24);
  return static_cast<std::size_t>(low * std::pow(high / low, u));
}

// Pareto's distribution with exponent 1 from low up, cut at high: most objects
// are near low, each size's share of all bytes is about the same.
std::size_t Pareto(Random& random, double low, double high) {
  const double u = (static_cast<double>(random.Below(1U << 24)) + 1) / ((1U << 24) + 1);
  return static_cast<std::size_t>(std::min(low / u, high));
}

std::size_t RandomSize(Random& random) {
  constexpr double kKiB = 1024;
  constexpr double kMiB = 1024 * kKiB;
  const std::uint64_t kind = random.Below(10000);
  if (kind < 200) {
    return 0;
  }
  if (kind < 4200) {
    return 1 + random.Below(64);
  }
  if (kind < 9000) {
    return Pareto(random, 16, kKiB);
  }
  if (kind < 9930) {
    return LogUniform(random, kKiB, 32 * kKiB);
  }
  if (kind < 9994) {
    return LogUniform(random, 32 * kKiB, 512 * kKiB);
  }
  if (kind < 9999 || !options.large) {
    return LogUniform(random, 512 * kKiB, 8 * kMiB);
  }
  return LogUniform(random, 8 * kMiB, 64 * kMiB);
}

// Powers of two from low up to a page, seldom up to 64 KiB or 4 MiB.
std::size_t RandomAlignment(Random& random, std::size_t low) {
  const std::uint64_t steps = random.OneIn(200) ? 20 : random.OneIn(10) ? 14 : 10;
  return low << random.Below(steps);
}

// ---------------------------------------------------------------------------
// Allocation and deallocation in all ways

// `way` is a number from 68 to 99.
void AllocateWithNew(Object& object, Random& random, std::uint64_t way) {
  const std::size_t size = object.requested_bytes;
  if (way < 84) {
    object.origin = kNew;
    object.address = ::operator new(size);
  } else if (way < 90) {
    object.origin = kNewArray;
    object.address = ::operator new[](size);
  } else if (way < 95) {
    object.origin = kNewNothrow;
    object.address = ::operator new(size, std::nothrow);
  } else {
    object.origin = kNewAligned;
    object.alignment = RandomAlignment(random, 8);
    object.address = ::operator new(size, std::align_val_t(object.alignment));
  }
}

Object Allocate(Random& random) {
  Object object;
  const std::size_t size = RandomSize(random);
  object.requested_bytes = size;
  object.alignment = options.min_alignment;
  const std::uint64_t way = random.Below(100);
  int error = 0;
  if (way < 35) {
    object.origin = kMalloc;
    object.address = std::malloc(size);
  } else if (way < 50) {
    object.origin = kCalloc;
    if (random.OneIn(2) && size % 8 == 0) {
      object.address = std::calloc(size / 8, 8);
    } else {
      object.address = std::calloc(1, size);
    }
    if (object.address != nullptr) {
      const std::size_t dirty = FirstNonZero(object.address, size);
      if (dirty != size) {
        char what[96];
        std::snprintf(what, sizeof what, "calloc gave a byte that is not zero at offset %zu", dirty);
        FailObject(object, "at its allocation", what);
      }
      Count(counters->zero_bytes_verified, size);
    }
  } else if (way < 55) {
    object.origin = kRealloc;
    object.address = std::realloc(nullptr, size);
  } else if (way < 57) {
    object.origin = kReallocarray;
    object.requested_bytes = (size + 6) / 7 * 7;
    object.address = reallocarray(nullptr, (size + 6) / 7, 7);
  } else if (way < 61) {
    object.origin = kAlignedAlloc;
    object.alignment = RandomAlignment(random, sizeof(void*));
    // C17 wants a multiple of the alignment.
    object.requested_bytes = (size + object.alignment - 1) & ~(object.alignment - 1);
    object.address = std::aligned_alloc(object.alignment, object.requested_bytes);
  } else if (way < 65) {
    object.origin = kPosixMemalign;
    object.alignment = RandomAlignment(random, sizeof(void*));
    error = posix_memalign(&object.address, object.alignment, size);
  } else if (way < 67) {
    object.origin = kMemalign;
    object.alignment = RandomAlignment(random, sizeof(void*));
    object.address = memalign(object.alignment, size);
  } else if (way < 68) {
    object.origin = kValloc;
    object.alignment = static_cast<std::size_t>(getpagesize());
    object.address = valloc(size);
  } else {
    // operator new promises no more than the alignment that an object of the
    // size can have.
    if (size <= 8) {
      object.alignment = 8;
    }
    try {
      AllocateWithNew(object, random, way);
    } catch (const std::bad_alloc&) {
      object.address = nullptr;
    }
  }
  if (error != 0) {
    FailObject(object, "at its allocation", std::strerror(error));
  }
  Count(counters->calls[object.origin]);
  Adopt(object, random);
  return object;
}

void CountedFree(const Object& object, Random& random) {
  if (object.origin == kAlignedAlloc && OptionalFreeAlignedSized != nullptr && random.OneIn(2)) {
    Count(counters->calls[kFreeAlignedSized]);
    OptionalFreeAlignedSized(object.address, object.alignment, object.requested_bytes);
    return;
  }
  const bool plain = object.origin == kMalloc || object.origin == kCalloc || object.origin == kRealloc ||
                     object.origin == kReallocarray;
  if (plain && OptionalFreeSized != nullptr && random.OneIn(4)) {
    Count(counters->calls[kFreeSized]);
    OptionalFreeSized(object.address, object.requested_bytes);
    return;
  }
  Count(counters->calls[kFree]);
  errno = ERANGE;
  std::free(object.address);
  if (errno != ERANGE) {
    FailObject(object, "after its free", "free changed errno");
  }
}

void Deallocate(const Object& object, Random& random) {
  Verify(object, "before its free");
  const bool sized = random.OneIn(2);
  switch (object.origin) {
    case kNew:
      Count(counters->calls[sized ? kDeleteSized : kDelete]);
      if (sized) {
        ::operator delete(object.address, object.requested_bytes);
      } else {
        ::operator delete(object.address);
      }
      break;
    case kNewArray:
      Count(counters->calls[sized ? kDeleteSized : kDelete]);
      if (sized) {
        ::operator delete[](object.address, object.requested_bytes);
      } else {
        ::operator delete[](object.address);
      }
      break;
    case kNewNothrow:
      Count(counters->calls[kDelete]);
      ::operator delete(object.address, std::nothrow);
      break;
    case kNewAligned:
      Count(counters->calls[kDeleteAligned]);
      if (sized) {
        ::operator delete(object.address, object.requested_bytes, std::align_val_t(object.alignment));
      } else {
        ::operator delete(object.address, std::align_val_t(object.alignment));
      }
      break;
    default:
      CountedFree(object, random);
      break;
  }
}

bool CanResize(const Object& object) { return object.origin < kNew || object.origin > kNewAligned; }

// Resizes an object of the malloc family. Returns false if it is gone.
bool Resize(Object& object, Random& random) {
  Verify(object, "before its realloc");
  std::size_t size = RandomSize(random);
  if (random.OneIn(2)) {
    // Small steps stay within the usable size, or just leave it.
    size = object.requested_bytes / 2 + random.Below(object.requested_bytes + 64);
  }
  if (random.OneIn(50)) {
    // glibc frees and returns null; an allocator that keeps an object of size
    // zero is within the standard too.
    Count(counters->calls[kReallocToZero]);
    void* const rest = std::realloc(object.address, 0);
    if (rest == nullptr) {
      return false;
    }
    object.address = rest;
    object.requested_bytes = 0;
  } else {
    const std::size_t kept = std::min(object.requested_bytes, size);
    void* moved = nullptr;
    if (random.OneIn(8)) {
      Count(counters->calls[kReallocarray]);
      moved = reallocarray(object.address, size + (size == 0 ? 1 : 0), 1);
      size += size == 0 ? 1 : 0;
    } else {
      size += size == 0 ? 1 : 0;
      Count(counters->calls[kRealloc]);
      moved = std::realloc(object.address, size);
    }
    if (moved == nullptr) {
      FailObject(object, "at its realloc", "returned null");
    }
    object.address = moved;
    Verify(object, kept, "after its realloc");
    object.requested_bytes = size;
  }
  object.origin = kRealloc;
  object.alignment = options.min_alignment;
  Adopt(object, random);
  return true;
}

// ---------------------------------------------------------------------------
// Mailboxes: how objects get from thread to thread

struct Mailbox {
  std::mutex mutex;
  std::vector<Object> objects;  // Guarded by mutex.
  std::size_t bytes = 0;        // Guarded by mutex; of the objects.
};

std::vector<std::unique_ptr<Mailbox>> mailboxes;
std::size_t bytes_per_owner = 0;  // The budget's share of a thread or mailbox.

// Returns false, and leaves the object to the caller, if the mailbox is full.
bool Send(const Object& object, Mailbox& mailbox) {
  const std::lock_guard lock(mailbox.mutex);
  if (mailbox.bytes >= bytes_per_owner) {
    return false;
  }
  mailbox.objects.push_back(object);
  mailbox.bytes += object.requested_bytes;
  Count(counters->handed_over);
  return true;
}

bool Receive(Mailbox& mailbox, Random& random, Object& object) {
  const std::lock_guard lock(mailbox.mutex);
  if (mailbox.objects.empty()) {
    return false;
  }
  const std::size_t at = random.Below(mailbox.objects.size());
  object = mailbox.objects[at];
  mailbox.objects[at] = mailbox.objects.back();
  mailbox.objects.pop_back();
  mailbox.bytes -= object.requested_bytes;
  return true;
}

// ---------------------------------------------------------------------------
// A thread's own objects

class Holder {
 public:
  explicit Holder(std::uint64_t seed) : random_(seed) {}

  Random& random() { return random_; }
  bool empty() const { return objects_.empty(); }
  bool full() const { return live_bytes_ >= bytes_per_owner || objects_.size() >= 20000; }

  void Add(const Object& object) {
    live_bytes_ += object.requested_bytes;
    objects_.push_back(object);
  }

  Object TakeAny() {
    const std::size_t at = random_.Below(objects_.size());
    const Object object = objects_[at];
    objects_[at] = objects_.back();
    objects_.pop_back();
    live_bytes_ -= object.requested_bytes;
    return object;
  }

  const Object& Any() { return objects_[random_.Below(objects_.size())]; }

  void VerifyAll(const char* when) const {
    for (const Object& object : objects_) {
      Verify(object, when);
    }
  }

  void FreeAll() {
    while (!empty()) {
      Deallocate(TakeAny(), random_);
    }
  }

  void AllocateSome(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      Add(Allocate(random_));
    }
  }

 private:
  Random random_;
  std::size_t live_bytes_ = 0;
  std::vector<Object> objects_;
};

// Some threads leave their objects to a destructor that runs when thread-local
// storage dies. The allocator may have begun to let go of the thread before.
struct Estate {
  std::unique_ptr<Holder> holder;
  ~Estate() {
    if (holder != nullptr) {
      holder->FreeAll();
    }
  }
};

// ---------------------------------------------------------------------------
// Forked children

std::atomic<std::size_t> children_now{0};
constexpr std::size_t kMaxChildren = 4;
// A child that takes longer than this is taken to hang: it does the work of a
// few milliseconds, shared with all threads of its parent.
constexpr std::chrono::seconds kChildPatience{240};

// The work of a forked child before it exits. No other thread exists in it; locks
// that others held stay locked forever, and what they guarded is left alone.
void LiveInChild(Holder& holder) {
  in_child = true;
  Random& random = holder.random();
  holder.VerifyAll("in a forked child");
  for (const std::unique_ptr<Mailbox>& mailbox : mailboxes) {
    if (mailbox->mutex.try_lock()) {
      for (const Object& object : mailbox->objects) {
        Verify(object, "in a mailbox inherited by a forked child");
      }
      if (random.OneIn(2)) {
        // They are this process's own now.
        for (const Object& object : mailbox->objects) {
          Deallocate(object, random);
        }
        mailbox->objects.clear();
      }
      mailbox->mutex.unlock();
    }
  }
  holder.AllocateSome(100 + random.Below(400));
  if (random.OneIn(4)) {
    // A child may start threads of its own.
    pthread_t thread;
    const auto body = [](void*) -> void* {
      in_child = true;
      Holder own(static_cast<std::uint64_t>(getpid()));
      own.AllocateSome(200);
      own.FreeAll();
      return nullptr;
    };
    if (pthread_create(&thread, nullptr, body, nullptr) == 0) {
      pthread_join(thread, nullptr);
    }
  }
  if (random.OneIn(2)) {
    holder.FreeAll();
  } else {
    holder.VerifyAll("at the end of a forked child");
  }
}

void WaitForChild(pid_t pid, const char* kind) {
  const auto deadline = Clock::now() + kChildPatience;
  int status = 0;
  for (;;) {
    const pid_t done = waitpid(pid, &status, WNOHANG);
    if (done == pid) {
      break;
    }
    if (done == -1 && errno != EINTR) {
      FailF("waitpid for a %s child: %s", kind, std::strerror(errno));
    }
    if (Clock::now() > deadline) {
      kill(pid, SIGABRT);
      FailF("a %s child (process %d) hangs", kind, static_cast<int>(pid));
    }
    usleep(1000);
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    FailF("a %s child (process %d) ended with wait status 0x%x", kind, static_cast<int>(pid),
          static_cast<unsigned>(status));
  }
}

void ForkOnce(Holder& holder) {
  if (children_now.fetch_add(1) >= kMaxChildren) {
    children_now.fetch_sub(1);
    return;
  }
  if (holder.random().OneIn(4)) {
    // vfork and exec underneath: the child shares our memory until it execs.
    pid_t pid = 0;
    char name[] = "/bin/true";
    char* arguments[] = {name, nullptr};
    if (posix_spawn(&pid, name, nullptr, nullptr, arguments, environ) == 0) {
      Count(counters->spawns);
      WaitForChild(pid, "spawned");
    }
  } else {
    const pid_t pid = fork();
    if (pid == 0) {
      // A child inherits no alarm; it must not outlive a parent that gave up.
      alarm(static_cast<unsigned>(kChildPatience.count()));
      LiveInChild(holder);
      _exit(0);
    }
    if (pid > 0) {
      Count(counters->forks);
      WaitForChild(pid, "forked");
    }
  }
  children_now.fetch_sub(1);
}

// ---------------------------------------------------------------------------
// Workers

std::atomic<bool> stopping{false};

struct Slot {
  std::mutex mutex;      // Held to start, to join, and to use the thread.
  pthread_t thread{};    // Guarded by mutex; valid while running is true.
  bool running = false;  // Guarded by mutex.
  std::size_t index = 0;
  std::uint64_t number = 0;      // Set before the thread starts.
  std::uint64_t operations = 0;  // to do; likewise
  std::atomic<bool> done{false};
};

void MigrateSelf(Random& random) {
  static const long cpu_count = sysconf(_SC_NPROCESSORS_CONF);
  CpuSet cpus;
  if (random.OneIn(3)) {
    for (long cpu = 0; cpu < cpu_count; ++cpu) cpus.Add(static_cast<std::size_t>(cpu));
  } else {
    cpus.Add(random.Below(static_cast<std::uint64_t>(cpu_count)));
  }
  // Refused for a CPU that the process may not use; another try follows.
  if (cpus.Apply(0)) {
    Count(counters->migrations);
  }
}

void DoOneOperation(Holder& holder, Slot& slot) {
  Random& random = holder.random();
  if (holder.full()) {
    for (int i = 0; i < 16 && !holder.empty(); ++i) {
      Deallocate(holder.TakeAny(), random);
    }
    return;
  }
  const std::uint64_t what = random.Below(1000);
  if (what < 440 || holder.empty()) {
    holder.Add(Allocate(random));
  } else if (what < 780) {
    Deallocate(holder.TakeAny(), random);
  } else if (what < 840) {
    Object object = holder.TakeAny();
    if (!CanResize(object)) {
      Deallocate(object, random);
    } else if (Resize(object, random)) {
      holder.Add(object);
    }
  } else if (what < 900) {
    const Object object = holder.TakeAny();
    Mailbox& mailbox = *mailboxes[random.Below(mailboxes.size())];
    if (!Send(object, mailbox)) {
      Deallocate(object, random);
    }
  } else if (what < 960) {
    // Mostly from its own mailbox, so that pairs of threads get to be producer
    // and consumer for a while.
    const std::size_t from = random.OneIn(4) ? random.Below(mailboxes.size()) : slot.index;
    Object object;
    if (Receive(*mailboxes[from], random, object)) {
      Verify(object, "after it was handed over");
      if (random.OneIn(2)) {
        holder.Add(object);
      } else {
        Deallocate(object, random);
      }
    }
  } else if (what < 990) {
    Verify(holder.Any(), "while it is live");
  } else if (what < 998) {
    sched_yield();
  } else if (options.affinity) {
    MigrateSelf(random);
  }
}

void* RunWorker(void* argument) {
  Slot& slot = *static_cast<Slot*>(argument);
  thread_local Estate estate;
  this_thread_number = slot.number;
  auto holder = std::make_unique<Holder>(options.seed * 1000003 + slot.number);
  Random& random = holder->random();
  for (std::uint64_t i = 0; i < slot.operations && !stopping.load(); ++i) {
    this_operation = i;
    DoOneOperation(*holder, slot);
    if (options.forks && random.OneIn(4000)) {
      ForkOnce(*holder);
    }
  }
  // Four ways to die: free all, leave all to others, leave all to thread-local
  // destructors, or a little of everything.
  const std::uint64_t way = random.Below(4);
  while (way != 0 && way != 2 && !holder->empty()) {
    const Object object = holder->TakeAny();
    Mailbox& mailbox = *mailboxes[random.Below(mailboxes.size())];
    if ((way == 3 && random.OneIn(2)) || !Send(object, mailbox)) {
      Deallocate(object, random);
    }
  }
  if (way == 0) {
    holder->FreeAll();
  }
  estate.holder = std::move(holder);
  slot.done.store(true);
  return nullptr;
}

// Workers are numbered through the whole run; a slot sees many of them.
void StartWorker(Slot& slot, std::uint64_t number, Random& random) {
  slot.number = number;
  // A few threads live long, most die young.
  slot.operations = random.OneIn(8) ? 20000 + random.Below(100000) : 1 + random.Below(2000);
  slot.done.store(false);
  const std::lock_guard lock(slot.mutex);
  const int error = pthread_create(&slot.thread, nullptr, RunWorker, &slot);
  if (error != 0) {
    FailF("pthread_create: %s", std::strerror(error));
  }
  slot.running = true;
  Count(counters->threads_started);
}

void JoinWorker(Slot& slot) {
  const std::lock_guard lock(slot.mutex);
  if (slot.running) {
    pthread_join(slot.thread, nullptr);
    slot.running = false;
  }
}

// ---------------------------------------------------------------------------
// Chaos

std::vector<std::unique_ptr<Slot>> slots;

void OnHarmlessSignal(int) {
  // Some work on the stack, so that the handler is more than an instruction.
  volatile unsigned char scratch[256];
  for (std::size_t i = 0; i < sizeof scratch; ++i) {
    scratch[i] = static_cast<unsigned char>(i);
  }
  const int error = errno;
  Count(counters->signals);
  errno = error;
}

void* RunSignalStorm(void*) {
  Random random(options.seed + 17);
  const std::array<int, 3> kinds = {SIGUSR1, SIGUSR2, SIGURG};
  while (!stopping.load()) {
    Slot& slot = *slots[random.Below(slots.size())];
    if (slot.mutex.try_lock()) {
      if (slot.running) {
        pthread_kill(slot.thread, kinds[random.Below(kinds.size())]);
      }
      slot.mutex.unlock();
    }
    usleep(static_cast<useconds_t>(random.Below(200)));
  }
  return nullptr;
}

void* RunAffinityChanger(void*) {
  Random random(options.seed + 19);
  const auto cpu_count = static_cast<std::uint64_t>(sysconf(_SC_NPROCESSORS_CONF));
  while (!stopping.load()) {
    Slot& slot = *slots[random.Below(slots.size())];
    if (slot.mutex.try_lock()) {
      if (slot.running) {
        CpuSet cpus = CpuSet::One(random.Below(cpu_count));
        if (random.OneIn(2)) {
          cpus.Add(random.Below(cpu_count));
        }
        if (cpus.ApplyTo(slot.thread)) {
          Count(counters->migrations);
        }
      }
      slot.mutex.unlock();
    }
    usleep(static_cast<useconds_t>(500 + random.Below(2000)));
  }
  return nullptr;
}

void* RunTrimmer(void*) {
  Random random(options.seed + 23);
  while (!stopping.load()) {
    malloc_trim(random.OneIn(2) ? 0 : std::size_t{1} << 20);
    Count(counters->trims);
    if (random.OneIn(8)) {
      // The numbers are nobody's business here; reading them must do no harm.
      [[maybe_unused]] const struct mallinfo2 info = mallinfo2();
    }
    usleep(static_cast<useconds_t>(1000 + random.Below(20000)));
  }
  return nullptr;
}

void InstallSignalHandlers() {
  struct sigaction action {};
  action.sa_handler = OnHarmlessSignal;
  action.sa_flags = SA_RESTART;
  for (const int signal : {SIGUSR1, SIGUSR2, SIGURG, SIGPROF}) {
    sigaction(signal, &action, nullptr);
  }
  itimerval interval{};
  interval.it_interval.tv_usec = 1000;
  interval.it_value.tv_usec = 1000;
  setitimer(ITIMER_PROF, &interval, nullptr);
}

void OnHang(int) {
  constexpr char kMessage[] = "stress: FAILED: the run did not end in time; some thread hangs\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kMessage, sizeof kMessage - 1);
  std::abort();
}

// ---------------------------------------------------------------------------
// The run

constexpr char kUsage[] =
    R"(usage: stress [option...]
  --seconds N         run for N seconds (10)
  --seed N            seed of all random choices (1)
  --threads N         worker threads (32)
  --budget-mib N      live memory, about (512)
  --min-alignment N   alignment that malloc promises for any size (16)
  --forks             fork children that verify what they inherit; spawn others
  --signals           timers and a storm of pthread_kill with harmless handlers
  --affinity          move threads from CPU to CPU
  --trim              call malloc_trim and mallinfo2 from a thread of its own
  --large             objects of up to 64 MiB
  --chaos             all five of them
  --library NAME      fail unless malloc comes from a file with NAME in its path
)";

std::uint64_t ParseNumber(const char* option, const char* text) {
  char* end = nullptr;
  const unsigned long long value = text == nullptr ? 0 : std::strtoull(text, &end, 10);
  if (text == nullptr || end == text || *end != '\0') {
    std::fprintf(stderr, "stress: %s needs a number\n", option);
    std::exit(2);
  }
  return value;
}

void ParseOptions(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    const auto number = [&] {
      const char* const option = argv[i];
      ++i;
      return ParseNumber(option, i < argc ? argv[i] : nullptr);
    };
    const bool all = name == "--chaos";
    if (name == "--seconds") {
      options.seconds = static_cast<double>(number());
    } else if (name == "--seed") {
      options.seed = number();
    } else if (name == "--threads") {
      options.threads = std::max<std::size_t>(1, number());
    } else if (name == "--budget-mib") {
      options.budget_bytes = number() << 20;
    } else if (name == "--min-alignment") {
      options.min_alignment = std::max<std::size_t>(1, number());
    } else if (name == "--library" && i + 1 < argc) {
      options.library = argv[++i];
    } else if (name == "--help") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    } else if (all || name == "--forks" || name == "--signals" || name == "--affinity" || name == "--trim" ||
               name == "--large") {
      options.forks = options.forks || all || name == "--forks";
      options.signals = options.signals || all || name == "--signals";
      options.affinity = options.affinity || all || name == "--affinity";
      options.trim = options.trim || all || name == "--trim";
      options.large = options.large || all || name == "--large";
    } else {
      std::fprintf(stderr, "stress: unknown option %s\n%s", argv[i], kUsage);
      std::exit(2);
    }
  }
}

void PrintSummary(double seconds, const char* library) {
  std::printf("stress: ok: %.1f s, %zu threads at a time, seed %" PRIu64 ", malloc from %s\n", seconds, options.threads,
              options.seed, library);
  std::uint64_t total = 0;
  for (std::size_t call = 0; call < kCallCount; ++call) {
    const std::uint64_t count = counters->calls[call].load();
    total += count;
    std::printf("  %-20s %12" PRIu64 "\n", kCallNames[call], count);
  }
  std::printf("  %-20s %12" PRIu64 "\n", "all calls", total);
  std::printf("  verified: %" PRIu64 " objects, %" PRIu64 " MiB of patterns, %" PRIu64 " MiB of zeros\n",
              counters->objects_verified.load(), counters->bytes_verified.load() >> 20,
              counters->zero_bytes_verified.load() >> 20);
  std::printf("  objects handed over %" PRIu64 ", threads started %" PRIu64 ", forks %" PRIu64 ", spawns %" PRIu64
              ", signals %" PRIu64 ", migrations %" PRIu64 ", trims %" PRIu64 "\n",
              counters->handed_over.load(), counters->threads_started.load(), counters->forks.load(),
              counters->spawns.load(), counters->signals.load(), counters->migrations.load(), counters->trims.load());
}

int Run(int argc, char** argv) {
  ParseOptions(argc, argv);
  const char* const library = LibraryOfMalloc();
  if (options.library != nullptr && std::strstr(library, options.library) == nullptr) {
    std::fprintf(stderr, "stress: malloc comes from %s, not from %s\n", library, options.library);
    return 1;
  }
  void* const shared = mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    std::perror("stress: mmap");
    return 1;
  }
  counters = new (shared) Counters;
  pattern_key = Random(options.seed).Next();
  // Half of the budget is for threads, half for mailboxes.
  bytes_per_owner = options.budget_bytes / 2 / options.threads;
  for (std::size_t i = 0; i < options.threads; ++i) {
    mailboxes.push_back(std::make_unique<Mailbox>());
    slots.push_back(std::make_unique<Slot>());
    slots.back()->index = i;
  }

  signal(SIGALRM, OnHang);
  alarm(static_cast<unsigned>(options.seconds) + 480);
  if (options.signals) {
    InstallSignalHandlers();
  }
  const auto start = Clock::now();
  const auto end = start + std::chrono::milliseconds(static_cast<std::int64_t>(options.seconds * 1000));
  Random random(options.seed + 7);
  std::uint64_t workers = 0;
  for (const std::unique_ptr<Slot>& slot : slots) {
    StartWorker(*slot, ++workers, random);
  }
  std::vector<pthread_t> chaos;
  const auto add_chaos = [&](bool wanted, void* (*body)(void*)) {
    pthread_t thread;
    if (wanted && pthread_create(&thread, nullptr, body, nullptr) == 0) {
      chaos.push_back(thread);
    }
  };
  add_chaos(options.signals, RunSignalStorm);
  add_chaos(options.affinity, RunAffinityChanger);
  add_chaos(options.trim, RunTrimmer);

  while (Clock::now() < end) {
    for (const std::unique_ptr<Slot>& slot : slots) {
      if (slot->done.load()) {
        JoinWorker(*slot);
        StartWorker(*slot, ++workers, random);
      }
    }
    usleep(1000);
  }
  stopping.store(true);
  for (const std::unique_ptr<Slot>& slot : slots) {
    JoinWorker(*slot);
  }
  for (const pthread_t thread : chaos) {
    pthread_join(thread, nullptr);
  }
  for (const std::unique_ptr<Mailbox>& mailbox : mailboxes) {
    for (const Object& object : mailbox->objects) {
      Deallocate(object, random);
    }
  }
  const std::chrono::duration<double> elapsed = Clock::now() - start;
  PrintSummary(elapsed.count(), library);
  return 0;
}

}  // namespace
}  // namespace tarn_test

int main(int argc, char** argv) { return tarn_test::Run(argc, argv); }
