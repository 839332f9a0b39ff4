// SPDX-License-Identifier: Apache-2.0

#include "allocator/observe/memstats.h"

#include <cstring>

#include "allocator/base/text.h"
#include "allocator/cpu_cache/slab.h"
#include "allocator/observe/snapshot_reader.h"
#include "allocator/os/crash.h"
#include "allocator/os/process.h"

namespace tarn {

static_assert(SnapshotReader<OwnMemory>::kMaxSlabs == kMaxSlabs);

void ReadMemStats(const tarn_snapshot_block& block, bool ask_kernel, tarn_memstats_t* stats) {
  std::memset(stats, 0, sizeof *stats);
  const OwnMemory memory;
  SnapshotReader<OwnMemory> reader(memory);
  if (reader.Open(reinterpret_cast<std::uintptr_t>(&block)) != SnapshotError::kNone) return;
  // Memory of this process can always be read.
  static_cast<void>(reader.ReadMemStats(stats));
  if (!ask_kernel) return;
  const ResidentSize resident = ReadResidentSize();
  stats->rss_bytes = resident.now_bytes;
  stats->peak_rss_bytes = resident.peak_bytes;
}

void WriteStatistics(const tarn_memstats_t& stats) {
  Text<256> line;
  const auto write = [&line] {
    WriteToStderr((line << "\n").view());
    line.Clear();
  };
  const tarn_memory_classes& classes = stats.classes;
  line << "tarn: live ";
  line.Mebibytes(stats.heap_alloc_bytes) << " (small ";
  line.Mebibytes(stats.small_live_bytes) << ", large ";
  line.Mebibytes(stats.large_live_bytes) << " in " << stats.large_objects << ")";
  write();
  line << "tarn: cached ";
  line.Mebibytes(stats.cached_bytes) << " in " << stats.cpus << " slabs; free in spans ";
  line.Mebibytes(classes.heap_span_free_bytes);
  write();
  line << "tarn: pages: in use ";
  line.Mebibytes(stats.heap_inuse_bytes) << ", free ";
  line.Mebibytes(classes.heap_free_bytes) << ", free and released or untouched ";
  line.Mebibytes(classes.heap_released_bytes) << ", metadata ";
  line.Mebibytes(stats.sys_bytes - stats.heap_sys_bytes - classes.metadata_free_bytes);
  write();
  line << "tarn:    size   allocations         frees   refills   flushes          live   cached  in spans   spans";
  write();
  for (std::uint64_t c = 0; c < stats.class_count; ++c) {
    const tarn_memstats_class& of_class = stats.by_size[c];
    if (of_class.mallocs == 0 && of_class.spans == 0) continue;
    line << "tarn: ";
    line.Padded(of_class.size_bytes, 7).Padded(of_class.mallocs, 14).Padded(of_class.frees, 14);
    line.Padded(of_class.refills, 10).Padded(of_class.flushes, 10).Padded(of_class.live, 14);
    line.Padded(of_class.cached, 9).Padded(of_class.free, 10).Padded(of_class.spans, 8);
    write();
  }
  line << "tarn:   large";
  line.Padded(stats.large_mallocs, 14).Padded(stats.large_frees, 14).Padded(stats.large_objects, 34);
  write();
}

}  // namespace tarn
