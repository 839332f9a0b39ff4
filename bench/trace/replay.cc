// SPDX-License-Identifier: Apache-2.0
//
// build/bench/replay: does what the threads of a recorded program did to malloc, on whatever malloc is preloaded.
//
//   LD_PRELOAD=libtarn.so build/bench/replay bench/traces/redis.trace --repeat 10
//
// The trace is turned into flat arrays of steps (steps.h) before the clock starts, in memory from mmap. So the
// allocator sees the calls of the trace and nothing else. A step costs one load of 16 bytes, and one load or store in
// a table of objects. That table is as small as the program's own: objects that one thread makes and ends use their
// places again.
// `--null` runs the steps without any allocator, and so reports what the replay itself costs.
//
// Threads are started where the recorded ones made their first call. They go at their own pace: only an object that
// another thread has yet to make is waited for.
//
// stdout is the same under every allocator; the time goes to stderr, and to the file that BENCH_METRICS names.

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory_resource>
#include <new>
#include <string_view>
#include <vector>

#include "bench/trace/mapped_file.h"
#include "bench/trace/steps.h"
#include "bench/trace/trace.h"

namespace tarn::trace {
namespace {

constexpr const char* kUsage =
    "Usage: replay TRACE [--repeat N] [--touch none|first|all] [--null]\n"
    "\n"
    "Replays a trace on the malloc of this process; preload the one to measure.\n"
    "  --repeat N   the whole trace N times (default 1); what it leaves allocated is freed in between\n"
    "  --touch T    what is written to a new object: nothing, its first byte (default), or all of it\n"
    "  --null       calls no allocator: the time of the replay itself\n";

class MappedMemory : public std::pmr::memory_resource {
  void* do_allocate(std::size_t bytes, std::size_t /*alignment*/) override {
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    return memory;
  }
  void do_deallocate(void* memory, std::size_t bytes, std::size_t /*alignment*/) override { munmap(memory, bytes); }
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }
};

enum class Touch { kNone, kFirst, kAll };

struct Options {
  const char* path = nullptr;
  std::uint64_t repeat = 1;
  Touch touch = Touch::kFirst;
  bool is_null = false;
};

struct LibcAllocator {
  static void* Malloc(std::size_t bytes) { return std::malloc(bytes); }
  static void* Calloc(std::size_t bytes) { return std::calloc(1, bytes); }
  static void* Realloc(void* object, std::size_t bytes) { return std::realloc(object, bytes); }
  static void Free(void* object) { std::free(object); }
  static void* Aligned(std::size_t alignment, std::size_t bytes) {
    void* object = nullptr;
    return posix_memalign(&object, std::max(alignment, sizeof(void*)), bytes) == 0 ? object : nullptr;
  }
};

// Functions that are called, as an allocator's are, and do nothing.
struct NullAllocator {
  static inline char object;
  [[gnu::noinline]] static void* Malloc(std::size_t /*bytes*/) { return Opaque(&object); }
  [[gnu::noinline]] static void* Calloc(std::size_t /*bytes*/) { return Opaque(&object); }
  [[gnu::noinline]] static void* Realloc(void* same, std::size_t /*bytes*/) { return Opaque(same); }
  [[gnu::noinline]] static void Free(void* same) { Opaque(same); }
  [[gnu::noinline]] static void* Aligned(std::size_t /*alignment*/, std::size_t /*bytes*/) { return Opaque(&object); }
  // The compiler may not know what comes back, nor drop the call.
  static void* Opaque(void* pointer) {
    asm volatile("" : "+r"(pointer));
    return pointer;
  }
};

[[noreturn, gnu::cold]] void Fail(const char* what, std::uint64_t bytes) {
  std::fprintf(stderr, "replay: %s failed (%llu bytes)\n", what, static_cast<unsigned long long>(bytes));
  std::_Exit(1);
}

class Replay {
 public:
  using Body = std::uint64_t (*)(Replay&, std::uint32_t);

  Replay(const Program& program, Body body, std::pmr::memory_resource* memory)
      : program_(program),
        body_(body),
        places_(program.places, std::pmr::polymorphic_allocator<>(memory)),
        threads_(program.threads.size(), std::pmr::polymorphic_allocator<>(memory)) {
    for (std::uint32_t thread = 0; thread < threads_.size(); ++thread) {
      threads_[thread].replay = this;
      threads_[thread].number = thread;
    }
  }

  // Runs the trace once; the calling thread is its first.
  void RunOnce() {
    RunThread(&threads_[0]);
    for (std::size_t i = 1; i < threads_.size(); ++i) {
      // Acquire: the handle is there. Partner of the release in Start.
      while (!threads_[i].is_started.load(std::memory_order_acquire)) sched_yield();
      pthread_join(threads_[i].handle, nullptr);
      threads_[i].is_started.store(false, std::memory_order_relaxed);
    }
  }

  // Of what all threads have done in all rounds, whatever their pace.
  std::uint64_t checksum() const {
    std::uint64_t sum = 0;
    for (const Thread& thread : threads_) sum += Mix(thread.checksum + thread.number);
    return sum;
  }

  template <typename Allocator>
  void FreeKept() {
    for (const std::uint32_t place : program_.kept)
      Allocator::Free(places_[place].exchange(nullptr, std::memory_order_relaxed));
  }

  // The steps of one thread; returns their checksum. A template, so that nothing is asked in the loop.
  template <typename Allocator, Touch touch>
  static std::uint64_t RunSteps(Replay& self, std::uint32_t number) {
    std::uint64_t checksum = 0;
    Place* const places = self.places_.data();
    for (const Step& step : self.program_.threads[number]) {
      // Of every step and its position. The multiplication does not wait for the step before.
      checksum = std::rotl(checksum, 7) + (step.what + (std::uint64_t{step.ends} << 32 | step.makes)) * kMixer;
      void* object = nullptr;
      switch (step.kind()) {
        case Kind::kMalloc:
          object = Allocator::Malloc(step.bytes());
          break;
        case Kind::kCalloc:
          object = Allocator::Calloc(step.bytes());
          break;
        case Kind::kAligned:
          object = Allocator::Aligned(step.alignment(), step.bytes());
          break;
        case Kind::kRealloc:
          object = Allocator::Realloc(TakeObject(places[step.ends]), step.bytes());
          break;
        case Kind::kFree:
          Allocator::Free(TakeObject(places[step.ends]));
          continue;
        case Kind::kStart:
          self.Start(step.makes);
          continue;
      }
      if (object == nullptr) [[unlikely]]
        Fail(kKindNames[static_cast<std::size_t>(step.kind())], step.bytes());
      if constexpr (touch == Touch::kFirst) {
        if (step.bytes() > 0) *static_cast<volatile char*>(object) = 1;
      } else if constexpr (touch == Touch::kAll) {
        std::memset(object, 1, step.bytes());
      }
      // Release: what was written to the object. Partner of the acquire in TakeObject.
      places[step.makes].store(object, std::memory_order_release);
    }
    return checksum;
  }

 private:
  struct alignas(64) Thread {
    Replay* replay = nullptr;
    std::uint32_t number = 0;
    std::uint64_t checksum = 0;
    std::atomic<bool> is_started = false;
    pthread_t handle{};
  };

  static constexpr std::uint64_t kMixer = 0x9E3779B97F4A7C15;  // odd, its bits without a pattern: 2^64 / golden ratio

  static std::uint64_t Mix(std::uint64_t value) {
    value *= kMixer;
    return value ^ value >> 32;
  }

  static void* RunThread(void* argument) {
    auto* thread = static_cast<Thread*>(argument);
    const std::uint64_t checksum = thread->replay->body_(*thread->replay, thread->number);
    thread->checksum = Mix(thread->checksum + checksum);
    return nullptr;
  }

  void Start(std::uint32_t number) {
    Thread& thread = threads_[number];
    if (const int problem = pthread_create(&thread.handle, nullptr, RunThread, &thread); problem != 0) {
      std::fprintf(stderr, "replay: cannot start thread %u of the trace: %s\n", number, std::strerror(problem));
      std::_Exit(1);
    }
    thread.is_started.store(true, std::memory_order_release);
  }

  // Takes an object out of its place, when it is there.
  static void* TakeObject(Place& place) {
    void* object = place.load(std::memory_order_acquire);
    if (object == nullptr) [[unlikely]]
      object = WaitForObject(place);
    // Relaxed: nobody looks at this place again before the object made next is stored in it. This thread does so, or
    // another one in the next round, after this one was joined.
    place.store(nullptr, std::memory_order_relaxed);
    return object;
  }

  [[gnu::noinline, gnu::cold]] static void* WaitForObject(Place& place) {
    constexpr unsigned kSpins = 100;  // chosen: about a microsecond
    for (unsigned i = 0;; ++i) {
      if (void* object = place.load(std::memory_order_acquire)) return object;
      // There may be more threads than CPUs.
      if (i >= kSpins) sched_yield();
    }
  }

  const Program& program_;
  const Body body_;
  std::pmr::vector<Place> places_;
  std::pmr::vector<Thread> threads_;
};

template <typename Allocator>
Replay::Body ChooseBody(Touch touch) {
  switch (touch) {
    case Touch::kNone:
      return Replay::RunSteps<Allocator, Touch::kNone>;
    case Touch::kFirst:
      return Replay::RunSteps<Allocator, Touch::kFirst>;
    case Touch::kAll:
      return Replay::RunSteps<Allocator, Touch::kAll>;
  }
  std::abort();
}

// Returns a figure that the kernel has of this process, or -1.
std::int64_t ReadStatusKib(const char* field) {
  char text[4096];
  const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
  const ssize_t length = file < 0 ? -1 : read(file, text, sizeof(text) - 1);
  if (file >= 0) close(file);
  if (length < 0) return -1;
  text[length] = 0;
  const char* found = std::strstr(text, field);
  return found == nullptr ? -1 : std::atoll(found + std::strlen(field));
}

// Makes the peak of the resident memory what is resident now; false if the kernel cannot.
bool ResetPeakMemory() {
  const int file = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
  if (file < 0) return false;
  const bool is_reset = write(file, "5", 1) == 1;
  close(file);
  return is_reset;
}

struct Outcome {
  std::uint64_t checksum;
  std::uint64_t operations;
  double seconds;
  std::int64_t heap_kib;  // by how much the resident memory grew at most; -1 where that cannot be known
};

template <typename Allocator>
Outcome Run(const Program& program, const Options& options, std::pmr::memory_resource* memory) {
  Replay replay(program, ChooseBody<Allocator>(options.touch), memory);
  // Resident so far is the replay itself, and what the allocator set up at its start.
  const std::int64_t before_kib = ResetPeakMemory() ? ReadStatusKib("VmRSS:") : -1;
  const auto start = std::chrono::steady_clock::now();
  for (std::uint64_t round = 0; round < options.repeat; ++round) {
    // Not after the last one: a program ends with objects still allocated, too.
    if (round > 0) replay.FreeKept<Allocator>();
    replay.RunOnce();
  }
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  const std::int64_t heap_kib = before_kib < 0 ? -1 : ReadStatusKib("VmHWM:") - before_kib;
  std::uint64_t operations = program.kept.size() * (options.repeat - 1);
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    if (static_cast<Kind>(kind) != Kind::kStart) operations += program.counts[kind] * options.repeat;
  }
  return {replay.checksum(), operations, elapsed.count(), heap_kib};
}

void WriteMetrics(const Outcome& outcome, const Program& program, std::uint64_t peak_bytes) {
  const char* path = std::getenv("BENCH_METRICS");
  if (path == nullptr) return;
  std::FILE* file = std::fopen(path, "w");
  if (file == nullptr) {
    std::fprintf(stderr, "replay: cannot write BENCH_METRICS=%s: %s\n", path, std::strerror(errno));
    std::_Exit(1);
  }
  std::fprintf(file, "{\"operations\":%llu,\"threads\":%zu,\"live_peak_bytes\":%llu,",
               static_cast<unsigned long long>(outcome.operations), program.threads.size(),
               static_cast<unsigned long long>(peak_bytes));
  if (outcome.heap_kib >= 0) {
    std::fprintf(file, "\"heap_peak_rss_bytes\":%lld,", static_cast<long long>(outcome.heap_kib) * 1024);
  } else {
    std::fprintf(file, "\"heap_peak_rss_bytes\":null,");
  }
  std::fprintf(file, "\"replay_s\":%.6f,\"ns_per_operation\":%.3f}\n", outcome.seconds,
               outcome.seconds * 1e9 / static_cast<double>(outcome.operations));
  std::fclose(file);
}

// Returns whether the arguments are right, having said so if not.
bool ParseArguments(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (argument == "--null") {
      options.is_null = true;
    } else if (argument == "--repeat") {
      const auto [end, problem] = std::from_chars(value, value + std::strlen(value), options.repeat);
      if (problem != std::errc() || *end != 0 || options.repeat == 0) {
        std::fprintf(stderr, "replay: --repeat needs a whole number from 1 on\n%s", kUsage);
        return false;
      }
      ++i;
    } else if (argument == "--touch") {
      const std::string_view touch = value;
      if (touch != "none" && touch != "first" && touch != "all") {
        std::fprintf(stderr, "replay: --touch needs none, first or all\n%s", kUsage);
        return false;
      }
      options.touch = touch == "none" ? Touch::kNone : touch == "first" ? Touch::kFirst : Touch::kAll;
      ++i;
    } else if (argument.starts_with("-") || options.path != nullptr) {
      std::fprintf(stderr, "replay: not understood: %s\n%s", argv[i], kUsage);
      return false;
    } else {
      options.path = argv[i];
    }
  }
  if (options.path == nullptr) std::fprintf(stderr, "replay: which trace?\n%s", kUsage);
  if (options.is_null) options.touch = Touch::kNone;  // There is nothing to touch.
  return options.path != nullptr;
}

int Main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      std::fputs(kUsage, stdout);
      return 0;
    }
  }
  Options options;
  if (!ParseArguments(argc, argv, options)) return 2;

  MappedMemory memory;
  Program program(&memory);
  char name[256];
  std::uint64_t peak_bytes = 0;
  try {
    const MappedFile file(options.path);
    const Trace trace = Read(file.bytes(), &memory);
    std::snprintf(name, sizeof(name), "%s", trace.program.c_str());
    peak_bytes = trace.peak_bytes;
    program = Prepare(trace, &memory, &memory);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "replay: %s: %s\n", options.path, problem.what());
    return 1;
  }

  const Outcome outcome =
      options.is_null ? Run<NullAllocator>(program, options, &memory) : Run<LibcAllocator>(program, options, &memory);

  std::printf("%s, %zu %s, %llu times\n", name, program.threads.size(),
              program.threads.size() == 1 ? "thread" : "threads", static_cast<unsigned long long>(options.repeat));
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    std::printf("  %-8s %12llu\n", kKindNames[kind], static_cast<unsigned long long>(program.counts[kind]));
  }
  std::printf("  kept     %12zu\n", program.kept.size());
  std::printf("bytes requested %llu, live peak %llu\n", static_cast<unsigned long long>(program.bytes),
              static_cast<unsigned long long>(peak_bytes));
  std::printf("operations %llu, checksum %016llx\n", static_cast<unsigned long long>(outcome.operations),
              static_cast<unsigned long long>(outcome.checksum));
  std::fprintf(stderr, "replay: %.3f s, %.1f ns per operation", outcome.seconds,
               outcome.seconds * 1e9 / static_cast<double>(outcome.operations));
  if (outcome.heap_kib >= 0) {
    std::fprintf(stderr, ", %.1f MiB resident at the peak", static_cast<double>(outcome.heap_kib) / 1024);
  }
  std::fputc('\n', stderr);
  WriteMetrics(outcome, program, peak_bytes);
  return 0;
}

}  // namespace
}  // namespace tarn::trace

int main(int argc, char** argv) { return tarn::trace::Main(argc, argv); }
