// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/pages/pprof.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <numeric>
#include <thread>
#include <utility>

#include "tools/inspect/heap_profile.h"
#include "tools/inspect/profile/file.h"
#include "tools/inspect/profile/merge.h"
#include "tools/monitor/pages/live_page.h"

namespace tarn::tool {

namespace {

constexpr int kMaxSeconds = 300;
constexpr std::string_view kTooMany = "too many profiles at once; try again later";

HttpResponse PprofError(int status, std::string_view text) {
  return {status, std::string(kPlainText), std::string(text) + "\n", {{"X-Go-Pprof", "1"}}};
}

// Advice for a request for a profile that malloc does not have.
std::string_view Hint(std::string_view name) {
  if (name == "goroutine" || name == "threadcreate")
    return "Unknown profile: a process of C or C++ has threads instead; ps -T -p PID lists them, gdb -p PID shows "
           "stacks";
  if (name == "block" || name == "mutex")
    return "Unknown profile: malloc does not see the program's locks; perf lock does, and /metrics has malloc's own "
           "stalls";
  if (name == "profile" || name == "trace")
    return "Unknown profile: malloc does not see the CPU; perf record -g -p PID does, and pprof opens perf.data";
  return "Unknown profile; there are heap, allocs, cmdline and symbol";
}

int WholeNumber(const std::string& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : 0;
}

void GiveNames(Life* life, Profile* profile) {
  const std::lock_guard lock(life->symbolizer_mutex);
  life->symbolizer.Symbolize(profile);
  life->symbolizer.TakeNotes();
}

// False when nobody waits for it any more.
bool Sleep(int seconds, const HttpRequest& request) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  while (std::chrono::steady_clock::now() < end) {
    if (request.is_abandoned()) return false;
    std::this_thread::sleep_until(std::min(end, std::chrono::steady_clock::now() + std::chrono::milliseconds(100)));
  }
  return true;
}

std::string StatisticsText(const tarn_memstats_t& stats) {
  // The lines of Go's text, as far as malloc has the same.
  std::string text = "\n# runtime.MemStats\n";
  const auto line = [&](std::string_view name, std::uint64_t value) {
    text += fmt::format("# {} = {}\n", name, value);
  };
  line("Alloc", stats.alloc_bytes);
  line("TotalAlloc", stats.total_alloc_bytes);
  line("Sys", stats.sys_bytes);
  line("Mallocs", stats.mallocs);
  line("Frees", stats.frees);
  line("HeapAlloc", stats.heap_alloc_bytes);
  line("HeapSys", stats.heap_sys_bytes);
  line("HeapIdle", stats.heap_idle_bytes);
  line("HeapInuse", stats.heap_inuse_bytes);
  line("HeapReleased", stats.heap_released_bytes);
  line("HeapObjects", stats.heap_objects);
  text += fmt::format("# MSpan = {} / {}\n", stats.mspan_inuse_bytes, stats.mspan_sys_bytes);
  text += fmt::format("# MCache = {} / {}\n", stats.mcache_inuse_bytes, stats.mcache_sys_bytes);
  line("BuckHashSys", stats.buck_hash_sys_bytes);
  line("OtherSys", stats.other_sys_bytes);
  line("NextGC", stats.next_gc_bytes);
  line("MaxRSS", stats.peak_rss_bytes);
  return text;
}

HttpResponse CommandLine(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/cmdline", pid), std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  // The kernel ends each argument with a zero byte, Go separates them so.
  if (text.ends_with('\0')) text.pop_back();
  return {200, std::string(kPlainText), text, {}};
}

// "?0x4711+0x4712", or the same as the body of a POST: a line with the name for each address that has one.
HttpResponse Symbols(const HttpRequest& request, Life* life) {
  Profile profile;
  AddMappings(ReadCode(life->target.memory(), MapsOfTarget(life->target.memory())), &profile);
  std::string_view rest = request.method == "POST" ? request.body : request.query;
  while (!rest.empty()) {
    const std::size_t length = std::min(rest.find('+'), rest.size());
    std::string_view word = rest.substr(0, length);
    rest.remove_prefix(std::min(length + 1, rest.size()));
    const int base = word.starts_with("0x") || word.starts_with("0X") ? 16 : 10;
    if (base == 16) word.remove_prefix(2);
    std::uint64_t address = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), address, base);
    if (error != std::errc() || end != word.data() + word.size()) continue;
    const std::uint32_t mapping = FindMapping(profile, address);
    if (mapping == Profile::kNone) continue;
    Profile::Location& location = profile.locations.emplace_back();
    location.address = address;
    location.mapping = mapping;
  }
  GiveNames(life, &profile);
  // To Go's pprof any number but 0 says that there are symbols.
  std::string text = "num_symbols: 1\n";
  for (const Profile::Location& location : profile.locations) {
    // The function that the code belongs to, not one that was inlined into it.
    const Profile::Function& function = profile.functions[location.lines.back().function];
    text += fmt::format("{:#x} {}\n", location.address, profile.Text(function.name));
  }
  return {200, std::string(kPlainText), text, {}};
}

HttpResponse IndexPage(const Life& life) {
  tarn_snapshot_profile table;
  if (!life.target.reader().ReadProfile(&table)) life.target.Lost();
  return {
      200,
      "text/html; charset=utf-8",
      fmt::format("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>/debug/pprof/</title></head>"
                  "<body>\n<h1>/debug/pprof/</h1>\n<table>\n<tr><th>Count</th><th>Profile</th></tr>\n"
                  "<tr><td>{0}</td><td><a href=\"allocs?debug=1\">allocs</a></td></tr>\n"
                  "<tr><td>{0}</td><td><a href=\"heap?debug=1\">heap</a></td></tr>\n</table>\n<dl>\n"
                  "<dt>allocs</dt><dd>What was allocated since the start, by stack.</dd>\n"
                  "<dt>heap</dt><dd>What is live, by stack. <code>?seconds=N</code>: what changed in that time.</dd>\n"
                  "<dt><a href=\"cmdline\">cmdline</a></dt><dd>The command line of the process.</dd>\n"
                  "<dt><a href=\"symbol\">symbol</a></dt><dd>Names of addresses: <code>?0x4711+0x4712</code>.</dd>\n"
                  "</dl>\n</body></html>\n",
                  table.buckets),
      {}};
}

// The place of one profile, if there was one left.
class Slot {
 public:
  explicit Slot(std::counting_semaphore<>* slots) : slots_(slots->try_acquire() ? slots : nullptr) {}
  ~Slot() {
    if (slots_ != nullptr) slots_->release();
  }
  Slot(const Slot&) = delete;
  Slot& operator=(const Slot&) = delete;
  bool is_free() const { return slots_ != nullptr; }

 private:
  std::counting_semaphore<>* slots_;
};

}  // namespace

HttpResponse PprofPages::Answer(const HttpRequest& request, Life* life) {
  const std::string name = request.path.substr(kPprofPath.size());
  if (name.empty()) return IndexPage(*life);
  if (name == "cmdline") return CommandLine(life->target.pid());
  if (name != "heap" && name != "allocs" && name != "symbol") return PprofError(404, Hint(name));
  const Slot slot(&slots_);
  if (!slot.is_free()) return PprofError(503, kTooMany);
  return name == "symbol" ? Symbols(request, life) : AnswerHeap(name, request, life);
}

HttpResponse PprofPages::AnswerHeap(const std::string& name, const HttpRequest& request, Life* life) {
  // ?gc=1 asks Go to collect first; a snapshot of malloc is exact without.
  const bool is_text = WholeNumber(request.Parameter("debug")) != 0;
  const std::string seconds_text = request.Parameter("seconds");
  const int seconds = WholeNumber(seconds_text);
  if (!seconds_text.empty()) {
    if (seconds <= 0) return PprofError(400, "invalid value for \"seconds\" - must be a positive integer");
    if (is_text) return PprofError(400, "seconds and debug params are incompatible");
    if (seconds > kMaxSeconds)
      return PprofError(400, fmt::format("invalid value for \"seconds\" - must be at most {}", kMaxSeconds));
  }
  Profile profile = ReadHeapProfile(life->target);
  if (seconds > 0) {
    if (!Sleep(seconds, request)) return PprofError(500, "the profile was not waited for");
    // The process may have ended, and its number may be another's.
    if (life->IsOver()) life->target.Lost();
    profile = Diff(profile, ReadHeapProfile(life->target));
    profile.duration_ns = std::int64_t{seconds} * 1'000'000'000;
  }
  if (name == "allocs") profile.default_sample_type = profile.strings.Intern("alloc_space");
  GiveNames(life, &profile);
  if (is_text)
    return {200, std::string(kPlainText), LegacyHeapText(profile) + StatisticsText(life->target.Stats()), {}};
  const std::string file = name + (seconds > 0 ? "-delta" : "");
  return {200,
          "application/octet-stream",
          ProfileFileBytes(profile),
          {{"Content-Disposition", fmt::format("attachment; filename=\"{}\"", file)}}};
}

HttpResponse PprofPages::AnswerForPage(Life* life) {
  const Slot slot(&slots_);
  if (!slot.is_free()) return PageJson({{"schema", kPageSchema}, {"busy", kTooMany}}, 503);
  Profile profile = ReadHeapProfile(life->target);
  GiveNames(life, &profile);
  return PageJson(PageHeap(profile, life->target.pid()));
}

std::string LegacyHeapText(const Profile& profile) {
  const auto counts = [](const std::vector<std::int64_t>& values) {
    return fmt::format("{}: {} [{}: {}] @", values[2], values[3], values[0], values[1]);
  };
  std::vector<std::int64_t> sum(4);
  for (const Profile::Sample& sample : profile.samples)
    for (std::size_t i = 0; i < sum.size(); ++i) sum[i] = SaturatingAdd(sum[i], sample.values[i]);
  // "heapprofile" tells pprof that the numbers are estimates of the whole already, not bare samples.
  std::string text = fmt::format("heap profile: {} heapprofile\n", counts(sum));
  // The largest first, as people read it.
  std::vector<std::size_t> order(profile.samples.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater{}, [&](std::size_t i) { return profile.samples[i].values[3]; });
  for (const std::size_t i : order) {
    const Profile::Sample& sample = profile.samples[i];
    text += counts(sample.values);
    // pprof takes the addresses for returns and subtracts 1, to be in the call.
    for (const std::uint32_t location : sample.locations)
      if (profile.locations[location].address != 0)
        text += fmt::format(" {:#x}", profile.locations[location].address + 1);
    text += '\n';
    for (const std::uint32_t index : sample.locations) {
      const Profile::Location& location = profile.locations[index];
      for (const Profile::Line& line : location.lines) {
        const Profile::Function& function = profile.functions[line.function];
        text += fmt::format("#\t{:#x}\t{}\t{}:{}\n", location.address + 1, profile.Text(function.name),
                            profile.Text(function.file), line.line);
      }
    }
    text += '\n';
  }
  return text;
}

}  // namespace tarn::tool
