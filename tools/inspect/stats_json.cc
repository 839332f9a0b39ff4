// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/stats_json.h"

#include <algorithm>
#include <cstdint>

namespace tarn::tool {

namespace {

nlohmann::json ToJson(const tarn_memory_classes& classes) {
  return {
      {"mapped_bytes", classes.mapped_bytes},
      {"heap_live_bytes", classes.heap_live_bytes},
      {"heap_cached_bytes", classes.heap_cached_bytes},
      {"heap_span_free_bytes", classes.heap_span_free_bytes},
      {"heap_free_bytes", classes.heap_free_bytes},
      {"heap_released_bytes", classes.heap_released_bytes},
      {"heap_reserved_bytes", classes.heap_reserved_bytes},
      {"metadata_spans_bytes", classes.metadata_spans_bytes},
      {"metadata_page_map_bytes", classes.metadata_page_map_bytes},
      {"metadata_caches_bytes", classes.metadata_caches_bytes},
      {"metadata_pages_bytes", classes.metadata_pages_bytes},
      {"metadata_profile_bytes", classes.metadata_profile_bytes},
      {"metadata_other_bytes", classes.metadata_other_bytes},
      {"metadata_free_bytes", classes.metadata_free_bytes},
  };
}

nlohmann::json ToJson(const tarn_memstats_class& of_class) {
  return {
      {"size_bytes", of_class.size_bytes},
      {"mallocs", of_class.mallocs},
      {"frees", of_class.frees},
      {"live", of_class.live},
      {"cached", of_class.cached},
      {"free", of_class.free},
      {"spans", of_class.spans},
      {"span_bytes", of_class.span_bytes},
      {"waste_bytes", of_class.waste_bytes},
      {"refills", of_class.refills},
      {"flushes", of_class.flushes},
  };
}

}  // namespace

nlohmann::json ToJson(const tarn_memstats_cpu& cpu) {
  return {
      {"index", cpu.index},
      {"hits", cpu.hits},
      {"refills", cpu.refills},
      {"flushes", cpu.flushes},
      {"cached_objects", cpu.cached_objects},
      {"cached_bytes", cpu.cached_bytes},
      {"capacity_bytes", cpu.capacity_bytes},
      {"budget_bytes", cpu.budget_bytes},
  };
}

nlohmann::json ToJson(const tarn_registry_record& record) {
  return {
      {"name", record.name},
      {"kind", tarn_kind_name(record.kind)},
      {"instances", record.instances},
      {"live_objects", record.live_objects},
      {"live_bytes", record.live_bytes},
      {"capacity_bytes", record.capacity_bytes},
      {"allocations", record.allocations},
      {"frees", record.frees},
      {"resets", record.resets},
      {"failures", record.failures},
      {"hits", record.hits},
      {"misses", record.misses},
      {"steals", record.steals},
      {"drops", record.drops},
  };
}

nlohmann::json ToJson(const tarn_memstats_t& stats) {
  nlohmann::json by_size = nlohmann::json::array();
  for (std::uint64_t i = 0; i < std::min<std::uint64_t>(stats.class_count, TARN_MEMSTATS_MAX_CLASSES); ++i)
    if (stats.by_size[i].mallocs != 0 || stats.by_size[i].spans != 0) by_size.push_back(ToJson(stats.by_size[i]));
  return {
      {"alloc_bytes", stats.alloc_bytes},
      {"total_alloc_bytes", stats.total_alloc_bytes},
      {"sys_bytes", stats.sys_bytes},
      {"mallocs", stats.mallocs},
      {"frees", stats.frees},
      {"heap_alloc_bytes", stats.heap_alloc_bytes},
      {"heap_sys_bytes", stats.heap_sys_bytes},
      {"heap_idle_bytes", stats.heap_idle_bytes},
      {"heap_inuse_bytes", stats.heap_inuse_bytes},
      {"heap_released_bytes", stats.heap_released_bytes},
      {"heap_objects", stats.heap_objects},
      {"mspan_inuse_bytes", stats.mspan_inuse_bytes},
      {"mspan_sys_bytes", stats.mspan_sys_bytes},
      {"mcache_inuse_bytes", stats.mcache_inuse_bytes},
      {"mcache_sys_bytes", stats.mcache_sys_bytes},
      {"buck_hash_sys_bytes", stats.buck_hash_sys_bytes},
      {"page_map_sys_bytes", stats.page_map_sys_bytes},
      {"other_sys_bytes", stats.other_sys_bytes},
      {"next_gc_bytes", stats.next_gc_bytes},
      {"total_freed_bytes", stats.total_freed_bytes},
      {"cached_bytes", stats.cached_bytes},
      {"small_live_bytes", stats.small_live_bytes},
      {"large_live_bytes", stats.large_live_bytes},
      {"large_objects", stats.large_objects},
      {"large_mallocs", stats.large_mallocs},
      {"large_frees", stats.large_frees},
      {"peak_inuse_bytes", stats.peak_inuse_bytes},
      {"released_total_bytes", stats.released_total_bytes},
      {"huge_pages", stats.huge_pages},
      {"huge_pages_free", stats.huge_pages_free},
      {"huge_pages_backed", stats.huge_pages_backed},
      {"requested_estimate_bytes", stats.requested_estimate_bytes},
      {"rss_bytes", stats.rss_bytes},
      {"peak_rss_bytes", stats.peak_rss_bytes},
      {"fragmentation_permille", stats.fragmentation_permille},
      {"named_pools", stats.named_pools},
      {"named_pool_bytes", stats.named_pool_bytes},
      {"named_pool_live_bytes", stats.named_pool_live_bytes},
      {"hard_limit_bytes", stats.hard_limit_bytes},
      {"limit_exceeded", stats.limit_exceeded},
      {"limit_released_bytes", stats.limit_released_bytes},
      {"limit_release_ns", stats.limit_release_ns},
      {"hard_failures", stats.hard_failures},
      {"scavenger_cycles", stats.scavenger_cycles},
      {"scavenger_cpu_ns", stats.scavenger_cpu_ns},
      {"scavenger_released_bytes", stats.scavenger_released_bytes},
      {"scavenger_drained_bytes", stats.scavenger_drained_bytes},
      {"stalls", stats.stalls},
      {"stall_total_ns", stats.stall_total_ns},
      {"stall_longest_ns", stats.stall_longest_ns},
      {"stalls_by_time", stats.stalls_by_time},
      {"cpus", stats.cpus},
      {"guard_places", stats.guard_places},
      {"guarded_objects", stats.guarded_objects},
      {"guarded_bytes", stats.guarded_bytes},
      {"guarded_held", stats.guarded_held},
      {"guarded_allocations", stats.guarded_allocations},
      {"guard_reports", stats.guard_reports},
      {"class_count", stats.class_count},
      {"classes", ToJson(stats.classes)},
      {"by_size", by_size},
  };
}

}  // namespace tarn::tool
