// What glibc offers to look into malloc and to tune it, told of tarn: mallinfo, malloc_info, malloc_stats, malloc_trim,
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
#include "allocator/entry/slow_path.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/thread_exit.h"
#include "allocator/observe/statistics.h"
#include "allocator/os/thread_state.h"

namespace tarn {

namespace {

Statistics Gather() {
  PrepareThread();
  SlowPathScope scope;
  Statistics statistics;
  // A signal handler that interrupted a slow path sees zeroes: its thread may hold one of the locks.
  if (!scope.nested()) process_heap.GatherStatistics(&statistics);
  return statistics;
}

struct mallinfo2 Info() {
  const Statistics statistics = Gather();
  const PageHeapStats& pages = statistics.pages;
  struct mallinfo2 info = {};
  // arena: bytes obtained by means other than mmap, in glibc's terms; here what the reservations have committed.
  info.arena = pages.reserved_bytes - pages.uncommitted_bytes;
  // Objects with a mapping of their own.
  info.hblks = pages.mapped_bytes == 0 ? 0 : 1;
  info.hblkhd = pages.mapped_bytes;
  for (const SizeClassStatistics& of_class : statistics.classes) {
    // Free objects: in spans, and (fast bins, in glibc's terms) in caches.
    info.ordblks += of_class.span_objects;
    info.smblks += of_class.slab_objects + of_class.transfer_objects;
  }
  info.fsmblks = statistics.small_cached_bytes;
  info.uordblks = statistics.live_bytes;
  info.fordblks = statistics.small_cached_bytes + statistics.small_in_spans_bytes + pages.free_warm_bytes;
  // What malloc_trim could give back at once.
  info.keepcost = pages.free_warm_bytes;
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
  const Statistics statistics = Gather();
  const PageHeapStats& pages = statistics.pages;
  Text<512> text;
  bool written = true;
  const auto write = [&] {
    written &= ::fwrite(text.view().data(), 1, text.view().size(), stream) == text.view().size();
    text.Clear();
  };
  text << "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n";
  write();
  for (int c = 1; c < kSizeClassCount; ++c) {
    const SizeClassStatistics& of_class = statistics.classes[c];
    if (of_class.spans == 0) continue;
    const std::uint64_t size_bytes = kSizeClasses[c].size_bytes;
    const std::uint64_t free_objects = of_class.slab_objects + of_class.transfer_objects + of_class.span_objects;
    text << "<size from=\"" << (c == 1 ? std::uint64_t{1} : kSizeClasses[c - 1].size_bytes + std::uint64_t{1})
         << "\" to=\"" << size_bytes << "\" total=\"" << free_objects * size_bytes << "\" count=\"" << free_objects
         << "\" live=\"" << std::uint64_t{of_class.live_objects} << "\"/>\n";
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
  const std::uint64_t committed_bytes = pages.reserved_bytes - pages.uncommitted_bytes;
  std::uint64_t cached_objects = 0;
  std::uint64_t free_objects = 0;
  for (const SizeClassStatistics& of_class : statistics.classes) {
    cached_objects += of_class.slab_objects + of_class.transfer_objects;
    free_objects += of_class.span_objects;
  }
  memory("total", "fast", cached_objects, statistics.small_cached_bytes);
  memory("total", "rest", free_objects, statistics.small_in_spans_bytes + pages.free_warm_bytes);
  memory("system", "current", UINT64_MAX, committed_bytes);
  memory("system", "max", UINT64_MAX, committed_bytes);
  memory("aspace", "total", UINT64_MAX, pages.reserved_bytes);
  memory("aspace", "mprotect", UINT64_MAX, committed_bytes);
  text << "</heap>\n";
  write();
  memory("total", "fast", cached_objects, statistics.small_cached_bytes);
  memory("total", "rest", free_objects, statistics.small_in_spans_bytes + pages.free_warm_bytes);
  memory("total", "mmap", pages.mapped_bytes == 0 ? 0 : 1, pages.mapped_bytes);
  memory("system", "current", UINT64_MAX, committed_bytes + pages.mapped_bytes);
  memory("system", "max", UINT64_MAX, committed_bytes + pages.mapped_bytes);
  memory("aspace", "total", UINT64_MAX, pages.reserved_bytes + pages.mapped_bytes);
  text << "</malloc>\n";
  write();
  return written ? 0 : -1;
}

}  // extern "C"

}  // namespace tarn
