// SPDX-License-Identifier: Apache-2.0
//
// glibc's functions that look into malloc and tune it, for tarn: mallinfo, malloc_info, malloc_stats, malloc_trim,
// mallopt.
//
// None of the peers exports these, so a program that calls them there talks to the unused heap of libc.
#include <errno.h>
#include <malloc.h>
#include <stdio.h>

#include <algorithm>
#include <climits>
#include <cstddef>

#include "allocator/base/attributes.h"
#include "allocator/base/text.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/reclaim.h"
#include "allocator/observe/memstats.h"
#include "allocator/observe/published.h"

namespace tarn {

namespace {

tarn_memstats_t Gather() {
  PrepareThread();
  tarn_memstats_t stats;
  ReadMemStats(own_snapshot, false, &stats);
  return stats;
}

std::uint64_t CommittedBytes(const tarn_memstats_t& stats) {
  return stats.sys_bytes - stats.classes.heap_reserved_bytes;
}

struct mallinfo2 Info() {
  const tarn_memstats_t stats = Gather();
  struct mallinfo2 info = {};
  // arena: bytes obtained by means other than mmap, in glibc's terms; here what the reservations have committed.
  info.arena = CommittedBytes(stats) - stats.mapped_live_bytes;
  // Objects with a mapping of their own.
  info.hblks = stats.mapped_live_bytes == 0 ? 0 : 1;
  info.hblkhd = stats.mapped_live_bytes;
  for (std::uint64_t c = 0; c < stats.class_count; ++c) {
    // Free objects: in spans, and (fast bins, in glibc's terms) in caches.
    info.ordblks += stats.by_size[c].free;
    info.smblks += stats.by_size[c].cached;
  }
  info.fsmblks = stats.cached_bytes;
  info.uordblks = stats.heap_alloc_bytes;
  info.fordblks = stats.cached_bytes + stats.classes.heap_span_free_bytes + stats.classes.heap_free_bytes;
  // The bytes that malloc_trim could give back at once.
  info.keepcost = stats.classes.heap_free_bytes;
  return info;
}

int Saturate(std::size_t value) { return static_cast<int>(std::min<std::size_t>(value, INT_MAX)); }

}  // namespace

extern "C" {

TARN_EXPORT struct mallinfo2 mallinfo2() noexcept { return Info(); }

TARN_EXPORT struct mallinfo mallinfo() noexcept {
  const struct mallinfo2 info = Info();
  return {Saturate(info.arena),    Saturate(info.ordblks), Saturate(info.smblks),  Saturate(info.hblks),
          Saturate(info.hblkhd),   Saturate(info.usmblks), Saturate(info.fsmblks), Saturate(info.uordblks),
          Saturate(info.fordblks), Saturate(info.keepcost)};
}

TARN_EXPORT int malloc_trim(std::size_t pad) noexcept { return Trim(pad) != 0 ? 1 : 0; }

TARN_EXPORT void malloc_stats() noexcept { WriteStatistics(Gather()); }

// glibc's parameters have no counterpart here, and nothing breaks when they are ignored: 1, as for a known parameter,
// so that no caller takes it for an error.
TARN_EXPORT int mallopt(int parameter, int) noexcept {
  switch (parameter) {
    case M_MXFAST:
    case M_TRIM_THRESHOLD:
    case M_TOP_PAD:
    case M_MMAP_THRESHOLD:
    case M_MMAP_MAX:
    case M_CHECK_ACTION:
    case M_PERTURB:
    case M_ARENA_TEST:
    case M_ARENA_MAX:
      return 1;
    default:
      return 0;
  }
}

// One XML element, as glibc's: <malloc version="1"> with a heap that tells its size classes. The stream's own buffer
// may be allocated on the way, so no lock is held here.
TARN_EXPORT int malloc_info(int options, FILE* stream) noexcept {
  if (options != 0) {
    errno = EINVAL;
    return -1;
  }
  const tarn_memstats_t stats = Gather();
  Text<512> text;
  bool written = true;
  const auto write = [&] {
    written &= ::fwrite(text.view().data(), 1, text.view().size(), stream) == text.view().size();
    text.Clear();
  };
  text << "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n";
  write();
  std::uint64_t cached_objects = 0;
  std::uint64_t free_in_spans = 0;
  for (std::uint64_t c = 0; c < stats.class_count; ++c) {
    const tarn_memstats_class& of_class = stats.by_size[c];
    cached_objects += of_class.cached;
    free_in_spans += of_class.free;
    if (of_class.spans == 0) continue;
    const std::uint64_t size_bytes = of_class.size_bytes;
    const std::uint64_t free_objects = of_class.cached + of_class.free;
    text << "<size from=\"" << (c == 0 ? std::uint64_t{1} : stats.by_size[c - 1].size_bytes + 1) << "\" to=\""
         << size_bytes << "\" total=\"" << free_objects * size_bytes << "\" count=\"" << free_objects << "\" live=\""
         << of_class.live << "\"/>\n";
    write();
  }
  const auto memory = [&](const char* element, const char* type, std::uint64_t count, std::uint64_t bytes) {
    text << "<" << element << " type=\"" << type << "\"";
    if (count != UINT64_MAX) text << " count=\"" << count << "\"";
    text << " size=\"" << bytes << "\"/>\n";
    write();
  };
  text << "</sizes>\n";
  write();
  const std::uint64_t committed_bytes = CommittedBytes(stats) - stats.mapped_live_bytes;
  const std::uint64_t reserved_bytes = stats.sys_bytes - stats.mapped_live_bytes;
  const std::uint64_t rest_bytes = stats.classes.heap_span_free_bytes + stats.classes.heap_free_bytes;
  memory("total", "fast", cached_objects, stats.cached_bytes);
  memory("total", "rest", free_in_spans, rest_bytes);
  memory("system", "current", UINT64_MAX, committed_bytes);
  memory("system", "max", UINT64_MAX, committed_bytes);
  memory("aspace", "total", UINT64_MAX, reserved_bytes);
  memory("aspace", "mprotect", UINT64_MAX, committed_bytes);
  text << "</heap>\n";
  write();
  memory("total", "fast", cached_objects, stats.cached_bytes);
  memory("total", "rest", free_in_spans, rest_bytes);
  memory("total", "mmap", stats.mapped_live_bytes == 0 ? 0 : 1, stats.mapped_live_bytes);
  memory("system", "current", UINT64_MAX, committed_bytes + stats.mapped_live_bytes);
  memory("system", "max", UINT64_MAX, committed_bytes + stats.mapped_live_bytes);
  memory("aspace", "total", UINT64_MAX, reserved_bytes + stats.mapped_live_bytes);
  text << "</malloc>\n";
  write();
  return written ? 0 : -1;
}

}  // extern "C"

}  // namespace tarn
