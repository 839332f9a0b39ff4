// SPDX-License-Identifier: Apache-2.0
//
// The public functions that look into the heap: tarn/memstats.h and tarn/profile.h.
#include <errno.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "allocator/base/attributes.h"
#include "allocator/heap/process_heap.h"
#include "allocator/include/tarn/memstats.h"
#include "allocator/include/tarn/profile.h"
#include "allocator/observe/memstats.h"
#include "allocator/observe/profile_writer.h"
#include "allocator/observe/published.h"
#include "allocator/observe/snapshot_reader.h"
#include "allocator/os/file.h"

namespace tarn {

extern "C" {

TARN_EXPORT int tarn_memstats(tarn_memstats_t* stats, std::size_t stats_bytes) {
  if (stats == nullptr) {
    errno = EINVAL;
    return -1;
  }
  tarn_memstats_t all;
  ReadMemStats(own_snapshot, true, &all);
  const std::size_t known_bytes = std::min(stats_bytes, sizeof all);
  std::memcpy(stats, &all, known_bytes);
  std::memset(reinterpret_cast<char*>(stats) + known_bytes, 0, stats_bytes - known_bytes);
  return 0;
}

TARN_EXPORT std::size_t tarn_memstats_cpus(tarn_memstats_cpu* cpus, std::size_t count) {
  const OwnMemory memory;
  SnapshotReader<OwnMemory> reader(memory);
  if (reader.Open(reinterpret_cast<std::uintptr_t>(&own_snapshot)) != SnapshotError::kNone) return 0;
  std::size_t found = 0;
  reader.ForEachCpu([&](const tarn_memstats_cpu& cpu) {
    if (found < count) cpus[found] = cpu;
    ++found;
  });
  return found;
}

TARN_EXPORT void tarn_set_profile_rate(std::size_t rate_bytes) {
  PrepareThread();
  process_heap.SetProfileRate(std::min(rate_bytes, std::size_t{1} << 40));
}

TARN_EXPORT int tarn_write_heap_profile_fd(int descriptor) {
  return WriteHeapProfile(own_snapshot, descriptor) ? 0 : -1;
}

TARN_EXPORT int tarn_write_heap_profile(const char* path) {
  if (path == nullptr) {
    errno = EINVAL;
    return -1;
  }
  const int descriptor = CreateFile(path);
  if (descriptor < 0) return -1;
  const bool written = WriteHeapProfile(own_snapshot, descriptor);
  const int reason = errno;
  if (CloseFile(descriptor) && written) return 0;
  if (!written) errno = reason;
  RemoveFile(path);
  return -1;
}

TARN_EXPORT std::size_t tarn_profile_rate() { return process_heap.cpu_cache.sampler().rate_bytes(); }

}  // extern "C"

}  // namespace tarn
