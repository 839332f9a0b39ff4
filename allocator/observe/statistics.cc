#include "allocator/observe/statistics.h"

#include "allocator/base/text.h"
#include "allocator/os/crash.h"

namespace tarn {

void GatherStatistics(PageHeap& page_heap, TransferCache* transfer_caches, const CpuCache& cpu_cache,
                      Statistics* statistics) {
  *statistics = Statistics();
  for (int c = 1; c < kSizeClassCount; ++c) {
    const auto size_class = static_cast<SizeClass>(c);
    const SizeClassInfo& info = kSizeClasses[c];
    const CacheClassStats cache = cpu_cache.ClassStats(size_class);
    SizeClassStatistics& of_class = statistics->classes[c];
    of_class.allocations = cache.allocations;
    of_class.frees = cache.frees;
    of_class.refills = cache.refills;
    of_class.flushes = cache.flushes;
    of_class.slab_objects = cache.cached_objects;
    of_class.transfer_objects = transfer_caches[c].cached_objects();
    const CentralFreeListStats central = transfer_caches[c].central().Stats();
    of_class.spans = central.spans;
    of_class.span_objects = central.free_objects;
    // A snapshot of moving counters may be off by what moved; it must not wrap round.
    const std::uint64_t live = cache.allocations - cache.frees;
    of_class.live_objects = live > cache.allocations ? 0 : live;
    statistics->small_live_bytes += of_class.live_objects * info.size_bytes;
    statistics->small_cached_bytes += (of_class.slab_objects + of_class.transfer_objects) * info.size_bytes;
    statistics->small_in_spans_bytes +=
        central.spans * PageCount(info.span_pages).bytes() - central.live_objects * info.size_bytes;
  }
  statistics->pages = page_heap.Stats();
  statistics->live_bytes = statistics->small_live_bytes + statistics->pages.large_bytes;
  statistics->slabs = cpu_cache.populated_slabs();
}

void WriteStatistics(const Statistics& statistics) {
  const PageHeapStats& pages = statistics.pages;
  Text<256> line;
  const auto write = [&line] {
    WriteToStderr((line << "\n").view());
    line.Clear();
  };
  line << "tarn: live ";
  line.Mebibytes(statistics.live_bytes) << " (small ";
  line.Mebibytes(statistics.small_live_bytes) << ", large ";
  line.Mebibytes(pages.large_bytes) << " in " << std::uint64_t{pages.large_objects} << ")";
  write();
  line << "tarn: cached ";
  line.Mebibytes(statistics.small_cached_bytes)
      << " in " << std::uint64_t{statistics.slabs} << " slabs; free in spans ";
  line.Mebibytes(statistics.small_in_spans_bytes);
  write();
  line << "tarn: pages: in use ";
  line.Mebibytes(pages.in_use_bytes + pages.mapped_bytes) << ", free ";
  line.Mebibytes(pages.free_warm_bytes) << ", free and released or untouched ";
  line.Mebibytes(pages.free_zero_bytes) << ", metadata ";
  line.Mebibytes(pages.metadata_used_bytes);
  write();
  line << "tarn:    size   allocations         frees   refills   flushes          live   cached  in spans   spans";
  write();
  for (int c = 1; c < kSizeClassCount; ++c) {
    const SizeClassStatistics& of_class = statistics.classes[c];
    if (of_class.allocations == 0 && of_class.spans == 0) continue;
    line << "tarn: ";
    line.Padded(kSizeClasses[c].size_bytes, 7).Padded(of_class.allocations, 14).Padded(of_class.frees, 14);
    line.Padded(of_class.refills, 10).Padded(of_class.flushes, 10).Padded(of_class.live_objects, 14);
    line.Padded(of_class.slab_objects + of_class.transfer_objects, 9)
        .Padded(of_class.span_objects, 10)
        .Padded(of_class.spans, 8);
    write();
  }
  line << "tarn:   large";
  line.Padded(pages.large_allocations_total, 14).Padded(pages.large_allocations_total - pages.large_objects, 14);
  line.Padded(pages.large_objects, 34);
  write();
}

}  // namespace tarn
