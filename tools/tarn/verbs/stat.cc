// SPDX-License-Identifier: Apache-2.0
//
// tarn stat: what the heap of a running process holds, in a dozen lines.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tools/base/figures.h"
#include "tools/base/json_text.h"
#include "tools/inspect/stats_json.h"
#include "tools/inspect/target.h"
#include "tools/tarn/console.h"
#include "tools/tarn/verb.h"
#include "tools/tarn/watch.h"

namespace tarn::tool {

namespace {

struct StatOptions {
  std::string pid;
  WatchOptions watch;
};

// One moment of a process.
struct Moment {
  tarn_memstats_t stats;
  tarn_snapshot_profile profile;
  std::vector<tarn_memstats_cpu> cpus;
  std::vector<tarn_registry_record> pools;
  double up_s = 0;
};

Moment Read(const Target& target) {
  Moment moment;
  moment.stats = target.Stats();
  const bool read = target.reader().ReadProfile(&moment.profile) &&
                    target.reader().ForEachCpu([&](const tarn_memstats_cpu& cpu) { moment.cpus.push_back(cpu); }) &&
                    target.reader().ForEachNamedPool([&](const auto& pool) { moment.pools.push_back(pool); });
  if (!read) target.Lost();
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto now_ns = static_cast<double>(std::chrono::duration_cast<std::chrono::nanoseconds>(now).count());
  moment.up_s = std::max(0.0, (now_ns - static_cast<double>(target.reader().block().start_time_ns)) / 1e9);
  return moment;
}

std::string Bytes(std::uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

// "1 234 567"
std::string Count(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, " ");
  return digits;
}

// "3 d 4 h", "12 min 5 s"
std::string Duration(double seconds) {
  const auto s = static_cast<std::uint64_t>(seconds);
  if (s >= 86400) return fmt::format("{} d {} h", s / 86400, s % 86400 / 3600);
  if (s >= 3600) return fmt::format("{} h {} min", s / 3600, s % 3600 / 60);
  if (s >= 60) return fmt::format("{} min {} s", s / 60, s % 60);
  return fmt::format("{} s", s);
}

std::string_view IndexName(const tarn_snapshot_block& block) {
  switch (block.cache_index) {
    case TARN_INDEX_MM_CID:
      return "per CPU (rseq, mm_cid)";
    case TARN_INDEX_CPU_ID:
      return "per CPU (rseq, cpu_id)";
    default:
      return "per thread";
  }
}

class Text {
 public:
  void Line(std::string_view name, std::string_view text) { text_ += fmt::format("{:<10} {}\n", name, text); }
  void Add(std::string_view text) { text_ += text; }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

void AddSummary(const Target& target, const Moment& moment, Text* text) {
  const tarn_memstats_t& stats = moment.stats;
  const tarn_snapshot_block& block = target.reader().block();
  text->Line("process", fmt::format("{} ({}), tarn {}, up {}", target.pid(), target.name(), block.library_version,
                                    Duration(moment.up_s)));
  text->Line("live", fmt::format("{} in {} objects ({} in {} above 256 KiB)", Bytes(stats.alloc_bytes),
                                 Count(stats.heap_objects), Bytes(stats.large_live_bytes), Count(stats.large_objects)));
  text->Line("asked for", stats.requested_estimate_bytes == 0
                              ? std::string("not known, for there are no samples")
                              : fmt::format("{}, as estimated from samples", Bytes(stats.requested_estimate_bytes)));
  text->Line("allocated", fmt::format("{} in {} objects since the start; {} freed", Bytes(stats.total_alloc_bytes),
                                      Count(stats.mallocs), Count(stats.frees)));
  text->Line("caches", fmt::format("{}, {} of at most {}; {} in them", IndexName(block), Count(stats.cpus),
                                   Bytes(block.cache_budget_bytes), Bytes(stats.cached_bytes)));
  text->Line("in use",
             fmt::format("{} of pages (peak {}), {:.1f} % without live objects", Bytes(stats.heap_inuse_bytes),
                         Bytes(stats.peak_inuse_bytes), static_cast<double>(stats.fragmentation_permille) / 10));
  text->Line("idle", fmt::format("{} of pages, {} of it without memory", Bytes(stats.heap_idle_bytes),
                                 Bytes(stats.heap_released_bytes)));
  text->Line("returned", fmt::format("{} to the kernel since the start", Bytes(stats.released_total_bytes)));
  text->Line("huge pages",
             fmt::format("{} of 2 MiB, {} of them wholly free; the kernel's were asked for in {}",
                         Count(stats.huge_pages), Count(stats.huge_pages_free), Count(stats.huge_pages_backed)));
  text->Line("metadata", fmt::format("{} (spans {}, page map {}, caches {}, profile {}, other {})",
                                     Bytes(stats.sys_bytes - stats.heap_sys_bytes), Bytes(stats.mspan_sys_bytes),
                                     Bytes(stats.page_map_sys_bytes), Bytes(stats.mcache_sys_bytes),
                                     Bytes(stats.buck_hash_sys_bytes), Bytes(stats.other_sys_bytes)));
  text->Line("resident",
             fmt::format("{} of the whole process (peak {})", Bytes(stats.rss_bytes), Bytes(stats.peak_rss_bytes)));
  const tarn_snapshot_profile& profile = moment.profile;
  text->Line("profile", profile.rate_bytes == 0 ? std::string("off")
                                                : fmt::format("a sample every {}; {} live, {} taken, {} lost",
                                                              Bytes(profile.rate_bytes), Count(profile.live_samples),
                                                              Count(profile.samples), Count(profile.dropped_samples)));
}

void AddMemoryClasses(const tarn_memory_classes& classes, Text* text) {
  const auto add = [&](std::string_view name, std::uint64_t bytes) {
    text->Add(fmt::format("{:<22} {:>10}\n", name, Bytes(bytes)));
  };
  text->Add("\nWhere the mapped memory is:\n");
  add("live objects", classes.heap_live_bytes);
  add("objects in caches", classes.heap_cached_bytes);
  add("free in spans", classes.heap_span_free_bytes);
  add("free pages", classes.heap_free_bytes);
  add("released pages", classes.heap_released_bytes);
  add("reserved, untouched", classes.heap_reserved_bytes);
  add("metadata: spans", classes.metadata_spans_bytes);
  add("metadata: page map", classes.metadata_page_map_bytes);
  add("metadata: caches", classes.metadata_caches_bytes);
  add("metadata: huge pages", classes.metadata_pages_bytes);
  add("metadata: profile", classes.metadata_profile_bytes);
  add("metadata: other", classes.metadata_other_bytes);
  add("metadata: not used yet", classes.metadata_free_bytes);
  add("together", classes.mapped_bytes);
}

void AddPolicies(const tarn_memstats_t& stats, Text* text) {
  const auto limit = [](std::uint64_t bytes) { return bytes == UINT64_MAX ? std::string("none") : Bytes(bytes); };
  const auto ms = [](std::uint64_t ns) { return static_cast<double>(ns) / 1e6; };
  text->Add("\n");
  text->Line("limits",
             fmt::format("soft {}, exceeded {} times, {} returned for it in {:.1f} ms; hard {}, {} refused",
                         limit(stats.next_gc_bytes), Count(stats.limit_exceeded), Bytes(stats.limit_released_bytes),
                         ms(stats.limit_release_ns), limit(stats.hard_limit_bytes), Count(stats.hard_failures)));
  text->Line("scavenger", fmt::format("{} cycles, {:.1f} ms of CPU; {} returned, {} out of caches",
                                      Count(stats.scavenger_cycles), ms(stats.scavenger_cpu_ns),
                                      Bytes(stats.scavenger_released_bytes), Bytes(stats.scavenger_drained_bytes)));
  text->Line("stalls", fmt::format("{} slow paths in the kernel or at a lock, {:.1f} ms in all, the longest {:.3f} ms",
                                   Count(stats.stalls), ms(stats.stall_total_ns), ms(stats.stall_longest_ns)));
  text->Line("guarded", fmt::format("{} live objects in {} places, {} freed ones held; {} since the start; {} reports",
                                    Count(stats.guarded_objects), Count(stats.guard_places), Count(stats.guarded_held),
                                    Count(stats.guarded_allocations), Count(stats.guard_reports)));
}

void AddSizeClasses(const tarn_memstats_t& stats, Text* text) {
  text->Add(fmt::format("\n{:>7} {:>14} {:>14} {:>12} {:>10} {:>8} {:>8} {:>6} {:>5}\n", "size", "mallocs", "frees",
                        "live", "bytes", "cached", "free", "spans", "full"));
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(stats.class_count, TARN_MEMSTATS_MAX_CLASSES); ++i) {
    const tarn_memstats_class& row = stats.by_size[i];
    if (row.mallocs == 0 && row.spans == 0) continue;
    const std::uint64_t objects = row.live + row.cached + row.free;
    text->Add(fmt::format("{:>7} {:>14} {:>14} {:>12} {:>10} {:>8} {:>8} {:>6} {:>4.0f}%\n", row.size_bytes,
                          row.mallocs, row.frees, row.live, Bytes(row.live * row.size_bytes), row.cached, row.free,
                          row.spans,
                          objects == 0 ? 0.0 : 100 * static_cast<double>(row.live) / static_cast<double>(objects)));
  }
}

void AddCpus(const std::vector<tarn_memstats_cpu>& cpus, bool per_thread, Text* text) {
  text->Add(fmt::format("\n{:>6} {:>14} {:>10} {:>10} {:>9} {:>10} {:>10}\n", per_thread ? "thread" : "cpu", "hits",
                        "refills", "flushes", "objects", "bytes", "capacity"));
  for (const tarn_memstats_cpu& cpu : cpus)
    text->Add(fmt::format("{:>6} {:>14} {:>10} {:>10} {:>9} {:>10} {:>10}\n", cpu.index, cpu.hits, cpu.refills,
                          cpu.flushes, cpu.cached_objects, Bytes(cpu.cached_bytes), Bytes(cpu.capacity_bytes)));
}

void AddPools(const std::vector<tarn_registry_record>& pools, Text* text) {
  if (pools.empty()) return;
  const auto at_least_0 = [](std::int64_t figure) {
    return static_cast<std::uint64_t>(std::max<std::int64_t>(figure, 0));
  };
  text->Add(fmt::format("\n{:<32} {:<16} {:>6} {:>12} {:>10} {:>10} {:>14} {:>8}\n", "arena, pool or heap", "kind",
                        "exist", "live", "bytes", "holds", "allocations", "failures"));
  for (const tarn_registry_record& pool : pools) {
    // A pool of recycled objects hands out what malloc gave; it counts its hits and misses instead.
    const bool recycles = pool.kind == TARN_KIND_POOL;
    text->Add(fmt::format("{:<32} {:<16} {:>6} {:>12} {:>10} {:>10} {:>14} {:>8}\n", pool.name,
                          tarn_kind_name(pool.kind), at_least_0(pool.instances), at_least_0(pool.live_objects),
                          Bytes(at_least_0(pool.live_bytes)), Bytes(at_least_0(pool.capacity_bytes)),
                          recycles ? pool.hits + pool.misses + pool.steals : pool.allocations, pool.failures));
  }
}

nlohmann::json StatDocument(const Target& target, const Moment& moment) {
  const tarn_snapshot_block& block = target.reader().block();
  nlohmann::json cpus = nlohmann::json::array();
  for (const tarn_memstats_cpu& cpu : moment.cpus) cpus.push_back(ToJson(cpu));
  nlohmann::json pools = nlohmann::json::array();
  for (const tarn_registry_record& pool : moment.pools) pools.push_back(ToJson(pool));
  const tarn_snapshot_profile& profile = moment.profile;
  return {{"schema", "tarn-stat/1"},
          {"pid", target.pid()},
          {"program", target.name()},
          {"library", target.library()},
          {"library_version", block.library_version},
          {"up_s", moment.up_s},
          {"caches", IndexName(block)},
          {"cache_budget_bytes", block.cache_budget_bytes},
          {"stats", ToJson(moment.stats)},
          {"cpus", cpus},
          {"pools", pools},
          {"profile",
           {{"rate_bytes", profile.rate_bytes},
            {"stacks", profile.buckets},
            {"live_samples", profile.live_samples},
            {"samples", profile.samples},
            {"dropped_samples", profile.dropped_samples},
            {"truncated_stacks", profile.truncated_stacks}}}};
}

int RunStat(const StatOptions& options, const Invocation& invocation) {
  const Target target(ParsePid(options.pid));
  Watch(invocation, options.watch, [&](const View&) {
    const Moment moment = Read(target);
    // Of --watch one line per moment, so that they can be read one by one.
    if (invocation.json)
      return JsonText(StatDocument(target, moment),
                      options.watch.interval_s > 0 ? JsonLayout::kOneLine : JsonLayout::kIndented);
    Text text;
    AddSummary(target, moment, &text);
    AddPools(moment.pools, &text);
    if (invocation.verbose) {
      AddPolicies(moment.stats, &text);
      AddMemoryClasses(moment.stats.classes, &text);
      AddSizeClasses(moment.stats, &text);
      AddCpus(moment.cpus, target.reader().block().cache_mode == TARN_CACHES_PER_THREAD, &text);
    }
    return text.text();
  });
  return kExitOk;
}

Prepared PrepareStat() {
  auto o = std::make_shared<StatOptions>();
  return {{{"PID", "PID", "a process that uses tarn", &o->pid},
           {"--watch", "SECONDS", "again every SECONDS seconds, until ^C or the end of the process",
            &o->watch.interval_s, 0.01, 86400},
           {"--count", "N", "with --watch: how many times", &o->watch.count, 1}},
          [o](const Invocation& invocation) { return RunStat(*o, invocation); }};
}

}  // namespace

extern const Verb kStatVerb;
const Verb kStatVerb = {
    .name = "stat",
    .summary = "show what the heap of a process holds",
    .examples = {{"tarn stat 4711", "a dozen lines; nothing runs in the process for it"},
                 {"tarn stat 4711 -v", "with the memory by kind, every size class and every cache"},
                 {"tarn stat 4711 --json --watch 10 | jq .stats.alloc_bytes", "a line of JSON every ten seconds"}},
    .details =
        "Counts are exact as of the moment of reading, and fit together when the process rests. `asked for` is an "
        "estimate: what the program requested, before it was rounded up to sizes.",
    .prepare = PrepareStat,
};

}  // namespace tarn::tool
