// SPDX-License-Identifier: Apache-2.0
//
// Shared by all workloads: arguments, objects that are touched and checked, random numbers, sizes, threads, clocks,
// resident memory, and the figures at the end.
//
// A workload is a program with a fixed amount of work on the malloc that it is given. It writes a checksum to stdout,
// which depends on its arguments alone. Its figures go as one JSON object to the file that the environment variable
// BENCH_METRICS names, or to stderr. The functions of the measured loops stand here, the others in workload.cc.
//
// Workloads are compiled with -fno-builtin, so that no pair of malloc and free is dropped. Moves of a word are written
// as __builtin_memcpy, for memcpy would then be a call.
#ifndef BENCH_WORKLOADS_WORKLOAD_H_
#define BENCH_WORKLOADS_WORKLOAD_H_

#include <sched.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

namespace workload {

// ---- The command line ----

// Each question about an option gives its value and adds it to the help; Finish comes after the last one. A wrong
// argument ends the process with exit code 2 and a line that says what would be right, --help with 0.
class Arguments {
 public:
  Arguments(int argc, char** argv, const char* summary);

  // The amount of work, as it is at --scale 1, times --scale; at least 1.
  std::uint64_t Scaled(std::uint64_t amount);
  std::uint64_t Number(const char* name, std::uint64_t initial, std::uint64_t least, std::uint64_t most,
                       const char* help);
  // The index of the chosen word; the first one is the default.
  std::size_t Choice(const char* name, std::initializer_list<const char*> words, const char* help);
  bool Flag(const char* name, const char* help);
  void Finish();

 private:
  // The value that was given for --name, last first, or null.
  const char* Find(const char* name);
  [[noreturn]] void Fail(const std::string& complaint) const;

  const char* program_;
  std::string help_;
  bool help_wanted_ = false;
  double scale_ = 0;  // 0: --scale was not asked for yet.
  struct Argument {
    const char* text;
    bool understood;
  };
  std::vector<Argument> arguments_;
};

// ---- Random numbers and sizes ----

// SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014): an addition and a
// mix per number, so that drawing costs little beside an allocation.
constexpr std::uint64_t Mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(Mix(seed + 1)) {}
  std::uint64_t operator()() { return Mix(state_ += 0x9e3779b97f4a7c15); }
  // Below `bound`, by the upper half of a product; the bias is below bound / 2^32.
  std::uint32_t Below(std::uint32_t bound) {
    return static_cast<std::uint32_t>(((operator()() >> 32) * std::uint64_t{bound}) >> 32);
  }

 private:
  std::uint64_t state_;
};

// Sizes drawn once, because a logarithm costs more than an allocation. All are at least 8.
class Sizes {
 public:
  // The larger, the rarer: as many bytes between s and 2s for every s (Pareto with exponent 1).
  static Sizes Pareto(std::uint32_t least_bytes, std::uint32_t most_bytes);
  static Sizes Uniform(std::uint32_t least_bytes, std::uint32_t most_bytes);
  static Sizes Fixed(std::uint32_t bytes) { return Uniform(bytes, bytes); }

  // The size for the i-th object, or for a random number.
  std::uint32_t operator[](std::uint64_t i) const { return bytes_[i % kCount]; }

 private:
  static constexpr std::size_t kCount = 4096;
  std::array<std::uint32_t, kCount> bytes_;
};

// ---- Objects ----

[[noreturn]] void FailOutOfMemory(std::size_t bytes);

inline void* Checked(void* object, std::size_t bytes) {
  if (object == nullptr) [[unlikely]]
    FailOutOfMemory(bytes);
  return object;
}
inline void* Allocate(std::size_t bytes) { return Checked(std::malloc(bytes), bytes); }

inline void StoreWord(void* object, std::size_t offset, std::uint64_t word) {
  __builtin_memcpy(static_cast<char*>(object) + offset, &word, sizeof(word));
}
inline std::uint64_t LoadWord(const void* object, std::size_t offset) {
  std::uint64_t word;
  __builtin_memcpy(&word, static_cast<const char*>(object) + offset, sizeof(word));
  return word;
}

// Writes `id` into every `stride_bytes` of an object of at least 8 bytes, and into its end. A program fills its
// objects; a word per cache line costs the cache and the kernel the same, and less of the time that is measured.
inline void Stamp(void* object, std::size_t bytes, std::uint64_t id, std::size_t stride_bytes = 64) {
  for (std::size_t offset = 0; offset + 8 <= bytes; offset += stride_bytes) StoreWord(object, offset, id);
  StoreWord(object, bytes - 8, id);
}

// An object's part of the checksum. Sums of this do not depend on the order. They show an object that was handed out
// twice, since one of the two ids is lost then.
inline std::uint64_t ReadStamp(const void* object, std::size_t bytes) {
  return Mix(LoadWord(object, 0)) + 3 * Mix(LoadWord(object, bytes - 8));
}

// Takes the stamp of an object and frees it.
inline std::uint64_t Release(void* object, std::size_t bytes) {
  const std::uint64_t stamp = ReadStamp(object, bytes);
  std::free(object);
  return stamp;
}

// Large blocks are touched once per OS page: what they cost is faults.
constexpr std::size_t kPageBytes = 4096;

// A zero-filled array outside of the measured malloc, all of it resident, so that RSS shows objects alone.
void* MapZeroed(std::size_t bytes);
void Unmap(void* address, std::size_t bytes);

template <typename T>
class MappedArray {
 public:
  explicit MappedArray(std::size_t count) : count_(count), items_(static_cast<T*>(MapZeroed(count * sizeof(T)))) {}
  ~MappedArray() { Unmap(items_, count_ * sizeof(T)); }
  MappedArray(const MappedArray&) = delete;
  MappedArray& operator=(const MappedArray&) = delete;
  T& operator[](std::size_t i) { return items_[i]; }
  std::size_t size() const { return count_; }

 private:
  std::size_t count_;
  T* items_;
};

// ---- Threads ----

// Runs work(context, 0) to work(context, count - 1) in threads of their own that start together; returns the sum of
// what they return.
std::uint64_t RunThreads(std::uint64_t count, std::uint64_t (*work)(void* context, std::uint64_t index), void* context);

// The same with anything that can be called with an index.
template <typename Work>
std::uint64_t RunThreads(std::uint64_t count, Work work) {
  const auto call = [](void* context, std::uint64_t index) { return (*static_cast<Work*>(context))(index); };
  return RunThreads(count, call, &work);
}

// Lets another thread run, where this one has to wait.
inline void Yield() { ::sched_yield(); }

// The i-th of `count` parts of an amount that need not be a multiple.
constexpr std::uint64_t Part(std::uint64_t amount, std::uint64_t count, std::uint64_t i) {
  return amount / count + (i < amount % count ? 1 : 0);
}

// ---- Time ----

// CLOCK_MONOTONIC.
std::uint64_t NowNs();

class Stopwatch {
 public:
  double Seconds() const { return static_cast<double>(NowNs() - start_ns_) / 1e9; }

 private:
  std::uint64_t start_ns_ = NowNs();
};

void SleepSeconds(double seconds);

// A clock for single calls of malloc. The fences keep what is measured between the two readings (Paoloni, "How to
// Benchmark Code Execution Times on Intel IA-32 and IA-64", 2010). Builtins, since <x86intrin.h> takes longer to
// compile than all the rest.
#if defined(__x86_64__)
inline std::uint64_t TicksBefore() {
  __builtin_ia32_lfence();
  const std::uint64_t ticks = __builtin_ia32_rdtsc();
  __builtin_ia32_lfence();
  return ticks;
}
inline std::uint64_t TicksAfter() {
  unsigned cpu;
  const std::uint64_t ticks = __builtin_ia32_rdtscp(&cpu);
  __builtin_ia32_lfence();
  return ticks;
}
#else
inline std::uint64_t TicksBefore() { return NowNs(); }
inline std::uint64_t TicksAfter() { return NowNs(); }
#endif

// Counts of durations in ticks: exact below 64, then 32 steps per doubling, so at most 3 % off; the maximum is exact.
class Histogram {
 public:
  void Add(std::uint64_t ticks) {
    ++counts_[Index(ticks)];
    if (ticks > most_) most_ = ticks;
  }
  void Add(const Histogram& other);
  std::uint64_t total() const;
  std::uint64_t most() const { return most_; }
  // The duration that a share of `part` (0 to 1) of all do not exceed.
  std::uint64_t Quantile(double part) const;

 private:
  static constexpr unsigned kStepBits = 5;
  static constexpr std::size_t kSteps = std::size_t{1} << kStepBits;
  static std::size_t Index(std::uint64_t ticks) {
    if (ticks < 2 * kSteps) return ticks;
    const unsigned shift = 63u - static_cast<unsigned>(__builtin_clzll(ticks)) - kStepBits;
    return shift * kSteps + (ticks >> shift);
  }
  static std::uint64_t UpperEnd(std::size_t index);

  std::array<std::uint64_t, (64 - kStepBits + 1) * kSteps> counts_{};
  std::uint64_t most_ = 0;
};

// Made before the measured work and asked after it: the longer it lives, the better it knows the length of a tick.
class TickLength {
 public:
  double ns() const;

 private:
  Stopwatch watch_;
  std::uint64_t start_ = TicksBefore();
};

// The result of measuring nothing, in ticks; the median of many.
std::uint64_t ClockOverheadTicks();

// ---- Resident memory ----

// From /proc/self/smaps_rollup, which walks the pages; the counters of /proc/self/statm may be off by some hundred KiB.
struct Resident {
  std::int64_t rss_bytes;
  // Of these, what the kernel may take at any time (MADV_FREE), which RSS still counts.
  std::int64_t lazily_freed_bytes;
};
Resident ReadResident();

// ---- The end ----

class Metrics {
 public:
  void Add(const std::string& name, double value);
  // Pairs of seconds and bytes.
  void AddSeries(const std::string& name, const std::vector<std::pair<double, double>>& points);
  // p50, p99, p999 and max of an operation in nanoseconds, less the overhead of the clock.
  void AddLatency(const std::string& operation, const Histogram& histogram, double tick_ns,
                  std::uint64_t overhead_ticks);
  std::string Json() const;

 private:
  std::string items_;
  std::string latencies_;
};

// Writes the checksum and the figures. The exit code of the workload: 1 if the figures could not be written.
[[nodiscard]] int Report(std::uint64_t checksum, const Metrics& metrics);

// Adds what most workloads tell: the operations (a malloc and its free are one), the threads and the time.
void AddSpeed(Metrics& metrics, std::uint64_t operations, std::uint64_t threads, double seconds);

}  // namespace workload

#endif  // BENCH_WORKLOADS_WORKLOAD_H_
