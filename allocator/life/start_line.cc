// SPDX-License-Identifier: Apache-2.0

#include "allocator/life/start_line.h"

#include "allocator/base/text.h"
#include "allocator/heap/process_heap.h"
#include "allocator/os/crash.h"
#include "allocator/os/environment.h"
#include "allocator/os/process.h"
#include "allocator/rseq/registration.h"

namespace tarn {

void WriteStartLine(const ProcessHeap& heap) {
  Text<512> line;
  line << "tarn: " << TARN_VERSION << " in " << ProgramName() << " (" << ProcessId() << "): ";
  const char* const other = &OtherMalloc != nullptr ? OtherMalloc() : nullptr;
  if (other != nullptr) {
    // The caches are of no interest then.
    line << "does not serve malloc, which comes from " << (*other != '\0' ? other : "the program itself") << "\n";
    WriteToStderr(line.view());
    return;
  }
  const RseqSupport& rseq = heap.cpu_cache.rseq();
  if (heap.cpu_cache.mode() == CacheMode::kCpu) {
    line << "per-CPU caches (rseq, " << (rseq.index == RseqIndex::kMmCid ? "mm_cid" : "cpu_id")
         << (rseq.register_threads ? ", registered by tarn" : "") << (rseq.remote_abort ? "" : ", no remote drain")
         << ")";
  } else {
    line << "per-thread caches (" << rseq.reason << ")";
  }
  line << ", " << static_cast<std::uint64_t>(heap.cpu_cache.budget_bytes() >> 10) << " KiB each\n";
  WriteToStderr(line.view());
}

}  // namespace tarn
