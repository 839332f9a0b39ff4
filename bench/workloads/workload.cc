// SPDX-License-Identifier: Apache-2.0
//
// The parts of workload.h that no measured loop calls.
#include "bench/workloads/workload.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <latch>
#include <thread>

namespace workload {

// ---- The command line ----

Arguments::Arguments(int argc, char** argv, const char* summary) : program_(argv[0]) {
  if (const char* slash = std::strrchr(program_, '/')) program_ = slash + 1;
  help_ = std::string("Usage: ") + program_ + " [options]\n\n" + summary +
          "\n\nWrites a checksum to stdout, and its figures as JSON to the file that BENCH_METRICS names, or to stderr."
          "\nbench/workloads/README.md tells more. Options:\n\n";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) help_wanted_ = true;
    arguments_.push_back({argv[i], false});
  }
}

void Arguments::Fail(const std::string& complaint) const {
  std::fprintf(stderr, "%s: %s; --help tells the options\n", program_, complaint.c_str());
  std::exit(2);
}

const char* Arguments::Find(const char* name) {
  const std::string option = std::string("--") + name;
  const char* value = nullptr;
  for (std::size_t i = 0; i < arguments_.size(); ++i) {
    const char* text = arguments_[i].text;
    if (option == text) {
      arguments_[i].understood = true;
      if (i + 1 == arguments_.size()) Fail(option + " needs a value");
      arguments_[++i].understood = true;
      value = arguments_[i].text;
    } else if (std::strncmp(text, option.c_str(), option.size()) == 0 && text[option.size()] == '=') {
      arguments_[i].understood = true;
      value = text + option.size() + 1;
    }
  }
  return value;
}

namespace {

std::string HelpLine(const std::string& option, const std::string& text) {
  return "  " + option + std::string(option.size() < 24 ? 24 - option.size() : 1, ' ') + text + "\n";
}

}  // namespace

std::uint64_t Arguments::Scaled(std::uint64_t amount) {
  if (scale_ == 0) {
    help_ += HelpLine("--scale FACTOR", "how much work: 0.0001 to 1000 times the usual amount (1)");
    scale_ = 1;
    if (const char* value = help_wanted_ ? nullptr : Find("scale")) {
      char* end = nullptr;
      scale_ = std::strtod(value, &end);
      if (end == value || *end != '\0' || !(scale_ >= 0.0001 && scale_ <= 1000)) {
        Fail(std::string("--scale ") + value + ": expected a number from 0.0001 to 1000");
      }
    }
  }
  return std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::llround(static_cast<double>(amount) * scale_)));
}

std::uint64_t Arguments::Number(const char* name, std::uint64_t initial, std::uint64_t least, std::uint64_t most,
                                const char* help) {
  const std::string range = std::to_string(least) + " to " + std::to_string(most);
  help_ += HelpLine(std::string("--") + name + " N",
                    std::string(help) + ": " + range + " (" + std::to_string(initial) + ")");
  const char* value = help_wanted_ ? nullptr : Find(name);
  if (value == nullptr) return initial;
  char* end = nullptr;
  errno = 0;
  const std::uint64_t number = std::strtoull(value, &end, 10);
  if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number < least || number > most) {
    Fail(std::string("--") + name + " " + value + ": expected a whole number from " + range);
  }
  return number;
}

std::size_t Arguments::Choice(const char* name, std::initializer_list<const char*> words, const char* help) {
  std::string list;
  for (const char* word : words) list += (list.empty() ? "" : ", ") + std::string(word);
  help_ += HelpLine(std::string("--") + name + " WORD", std::string(help) + ": " + list + " (" + *words.begin() + ")");
  const char* value = help_wanted_ ? nullptr : Find(name);
  if (value == nullptr) return 0;
  std::size_t index = 0;
  for (const char* word : words) {
    if (std::strcmp(word, value) == 0) return index;
    ++index;
  }
  Fail(std::string("--") + name + " " + value + ": expected one of " + list);
}

bool Arguments::Flag(const char* name, const char* help) {
  const std::string option = std::string("--") + name;
  help_ += HelpLine(option, help);
  bool given = false;
  for (Argument& argument : arguments_) {
    if (option == argument.text) given = argument.understood = true;
  }
  return given;
}

void Arguments::Finish() {
  if (help_wanted_) {
    std::fputs(help_.c_str(), stdout);
    std::exit(0);
  }
  for (const Argument& argument : arguments_) {
    if (!argument.understood) Fail(std::string("\"") + argument.text + "\" is not understood");
  }
}

// ---- Random numbers and sizes ----

Sizes Sizes::Uniform(std::uint32_t least_bytes, std::uint32_t most_bytes) {
  Sizes sizes;
  Random random(least_bytes + std::uint64_t{most_bytes});
  for (std::uint32_t& bytes : sizes.bytes_) bytes = least_bytes + random.Below(most_bytes - least_bytes + 1);
  return sizes;
}

Sizes Sizes::Pareto(std::uint32_t least_bytes, std::uint32_t most_bytes) {
  Sizes sizes;
  Random random(least_bytes + std::uint64_t{most_bytes});
  const double low = 1.0 / least_bytes;
  const double high = 1.0 / most_bytes;
  for (std::uint32_t& bytes : sizes.bytes_) {
    // The inverse of the distribution function, cut off at the most.
    const double uniform = static_cast<double>(random() >> 11) * 0x1p-53;
    bytes = static_cast<std::uint32_t>(1.0 / (low - uniform * (low - high)));
  }
  return sizes;
}

// ---- Objects ----

void FailOutOfMemory(std::size_t bytes) {
  std::fprintf(stderr, "out of memory at a request for %zu bytes; try a smaller --scale\n", bytes);
  std::exit(1);
}

void* MapZeroed(std::size_t bytes) {
  void* address = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (address == MAP_FAILED) FailOutOfMemory(bytes);
  return address;
}

void Unmap(void* address, std::size_t bytes) { ::munmap(address, bytes); }

// ---- Threads ----

std::uint64_t RunThreads(std::uint64_t count, std::uint64_t (*work)(void* context, std::uint64_t index),
                         void* context) {
  std::vector<std::uint64_t> sums(count);
  std::latch start(static_cast<std::ptrdiff_t>(count));
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < count; ++i) {
    threads.emplace_back([&, i] {
      start.arrive_and_wait();
      sums[i] = work(context, i);
    });
  }
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    threads[i].join();
    sum += sums[i];
  }
  return sum;
}

// ---- Time ----

std::uint64_t NowNs() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

void SleepSeconds(double seconds) {
  if (seconds > 0) std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
}

void Histogram::Add(const Histogram& other) {
  for (std::size_t i = 0; i < counts_.size(); ++i) counts_[i] += other.counts_[i];
  most_ = std::max(most_, other.most_);
}

std::uint64_t Histogram::total() const {
  std::uint64_t total = 0;
  for (const std::uint64_t count : counts_) total += count;
  return total;
}

std::uint64_t Histogram::UpperEnd(std::size_t index) {
  if (index < 2 * kSteps) return index;
  const std::size_t shift = index / kSteps - 1;
  return ((index - shift * kSteps + 1) << shift) - 1;
}

std::uint64_t Histogram::Quantile(double part) const {
  const auto wanted = static_cast<std::uint64_t>(std::ceil(part * static_cast<double>(total())));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen != 0 && seen >= wanted) return std::min(UpperEnd(i), most_);
  }
  return most_;
}

double TickLength::ns() const {
  const double seconds = watch_.Seconds();
  return seconds * 1e9 / static_cast<double>(TicksAfter() - start_);
}

std::uint64_t ClockOverheadTicks() {
  Histogram histogram;
  for (int i = 0; i < 20000; ++i) {
    const std::uint64_t start = TicksBefore();
    histogram.Add(TicksAfter() - start);
  }
  return histogram.Quantile(0.5);
}

// ---- Resident memory ----

Resident ReadResident() {
  // By system calls alone: a malloc would be work for the allocator that is measured in its silence.
  static char text[8192];
  const int file = ::open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
  const ssize_t length = file < 0 ? -1 : ::read(file, text, sizeof(text) - 1);
  if (length < 0) {
    std::fprintf(stderr, "cannot read /proc/self/smaps_rollup, which Linux has from 4.14 on: %s\n",
                 std::strerror(errno));
    std::exit(1);
  }
  ::close(file);
  text[length] = '\0';
  const auto find = [](const char* name) -> std::int64_t {
    const char* line = std::strstr(text, name);
    if (line == nullptr) return 0;
    return std::strtoll(line + std::strlen(name), nullptr, 10) * 1024;
  };
  return {find("\nRss:"), find("\nLazyFree:")};
}

// ---- The end ----

namespace {

std::string NumberText(double value) {
  // JSON has no name for these.
  if (!std::isfinite(value)) return "null";
  char text[32];
  // Whole numbers in full; six digits are more than any measured figure has.
  if (value == std::floor(value) && std::fabs(value) < 1e15) {
    std::snprintf(text, sizeof(text), "%.0f", value);
  } else {
    std::snprintf(text, sizeof(text), "%.6g", value);
  }
  return text;
}

std::string Member(const std::string& name, const std::string& value) { return "\"" + name + "\": " + value; }

void Append(std::string& list, const std::string& item) { list += (list.empty() ? "" : ", ") + item; }

}  // namespace

void Metrics::Add(const std::string& name, double value) { Append(items_, Member(name, NumberText(value))); }

void Metrics::AddSeries(const std::string& name, const std::vector<std::pair<double, double>>& points) {
  std::string list;
  for (const auto& [seconds, value] : points) {
    Append(list, "[" + NumberText(seconds) + ", " + NumberText(value) + "]");
  }
  Append(items_, Member(name, "[" + list + "]"));
}

void Metrics::AddLatency(const std::string& operation, const Histogram& histogram, double tick_ns,
                         std::uint64_t overhead_ticks) {
  std::string list;
  const auto add = [&](const char* name, std::uint64_t ticks) {
    const std::uint64_t rest = ticks > overhead_ticks ? ticks - overhead_ticks : 0;
    Append(list, Member(name, NumberText(std::round(static_cast<double>(rest) * tick_ns * 10) / 10)));
  };
  add("p50", histogram.Quantile(0.5));
  add("p99", histogram.Quantile(0.99));
  add("p999", histogram.Quantile(0.999));
  add("max", histogram.most());
  Append(latencies_, Member(operation, "{" + list + "}"));
}

std::string Metrics::Json() const {
  std::string all = items_;
  if (!latencies_.empty()) Append(all, Member("latency_ns", "{" + latencies_ + "}"));
  return "{" + all + "}\n";
}

void AddSpeed(Metrics& metrics, std::uint64_t operations, std::uint64_t threads, double seconds) {
  metrics.Add("operations", static_cast<double>(operations));
  metrics.Add("threads", static_cast<double>(threads));
  metrics.Add("work_s", seconds);
  metrics.Add("ns_per_operation", seconds * 1e9 / static_cast<double>(operations));
}

int Report(std::uint64_t checksum, const Metrics& metrics) {
  std::printf("checksum %016" PRIx64 "\n", checksum);
  if (std::fflush(stdout) != 0) {
    std::fprintf(stderr, "cannot write to stdout: %s\n", std::strerror(errno));
    return 1;
  }
  const std::string json = metrics.Json();
  const char* path = std::getenv("BENCH_METRICS");
  if (path == nullptr || *path == '\0') {
    std::fputs(json.c_str(), stderr);
    return 0;
  }
  std::FILE* file = std::fopen(path, "we");
  const bool written = file != nullptr && std::fputs(json.c_str(), file) >= 0;
  if (file == nullptr || std::fclose(file) != 0 || !written) {
    std::fprintf(stderr, "cannot write BENCH_METRICS=%s: %s\n", path, std::strerror(errno));
    return 1;
  }
  return 0;
}

}  // namespace workload
