// SPDX-License-Identifier: Apache-2.0
//
// The functions of tarn/limits.h and tarn/preset.h.
#include "allocator/include/tarn/limits.h"
#include "allocator/include/tarn/preset.h"

#include <algorithm>
#include <cerrno>

#include "allocator/base/attributes.h"
#include "allocator/heap/process_heap.h"
#include "allocator/heap/reclaim.h"

namespace tarn {

extern "C" {

TARN_EXPORT void tarn_set_memory_limit(std::size_t bytes) {
  PrepareThread();
  static_assert(TARN_LIMIT_NONE == SIZE_MAX && TARN_LIMIT_AUTO == 0);
  process_heap.SetMemoryLimit(SoftLimitSetting(bytes));
  process_heap.limits.Check(true);
}

TARN_EXPORT std::size_t tarn_memory_limit() { return process_heap.limits.soft_bytes(); }

TARN_EXPORT void tarn_set_hard_limit(std::size_t bytes) {
  PrepareThread();
  LimitSetting setting = {LimitSetting::Kind::kBytes, bytes};
  if (bytes == TARN_LIMIT_NONE) setting = {LimitSetting::Kind::kNone, 0};
  process_heap.SetHardLimit(setting);
}

TARN_EXPORT std::size_t tarn_hard_limit() { return process_heap.limits.hard_bytes(); }

TARN_EXPORT int tarn_add_limit_callback(unsigned percent, tarn_limit_callback callback, void* argument) {
  PrepareThread();
  if (percent < 1 || percent > 100 || callback == nullptr) return -1;
  return process_heap.limits.AddCallback(percent, callback, argument) ? 0 : -1;
}

TARN_EXPORT int tarn_remove_limit_callback(tarn_limit_callback callback, void* argument) {
  return process_heap.limits.RemoveCallback(callback, argument) ? 0 : -1;
}

TARN_EXPORT std::size_t tarn_release_memory(std::size_t bytes) { return ReleaseBytes(bytes); }

TARN_EXPORT std::uint32_t tarn_background_tick() {
  PrepareThread();
  return std::min(process_heap.scavenger.Tick(), process_heap.caretaker.RunDuties());
}

TARN_EXPORT void tarn_stop_background() {
  PrepareThread();
  process_heap.background.Stop();
  {
    // A handler has interrupted a slow path that holds a lock.
    SlowPathScope scope;
    if (scope.nested()) return;
  }
  const int saved_errno = errno;
  Scavenger::StopThread();
  process_heap.caretaker.Stop();
  errno = saved_errno;
}

TARN_EXPORT void tarn_get_limit_stats(tarn_limit_stats* stats) {
  const tarn_snapshot_limits limits = process_heap.limits.Stats();
  const tarn_snapshot_scavenger scavenger = process_heap.scavenger.Stats();
  *stats = {};
  stats->checks = limits.checks;
  stats->exceeded = limits.exceeded;
  stats->peak_excess_bytes = limits.peak_excess_bytes;
  stats->released_bytes = limits.released_bytes;
  stats->release_ns = limits.release_ns;
  stats->skipped = limits.skipped;
  stats->hard_failures = limits.hard_failures;
  stats->scavenger_cycles = scavenger.cycles;
  stats->scavenger_starts = scavenger.starts;
  stats->scavenger_cpu_ns = scavenger.cpu_ns;
  stats->scavenger_released_bytes = scavenger.released_bytes;
  stats->scavenger_drained_bytes = scavenger.drained_bytes;
  stats->scavenger_running = Scavenger::ThreadIsAlive() ? 1 : 0;
}

TARN_EXPORT int tarn_set_preset(const char* name) {
  Preset preset = Preset::kOff;
  if (name == nullptr || !FindPreset(name, &preset)) {
    errno = EINVAL;
    return -1;
  }
  PrepareThread();
  if (!process_heap.SetPreset(preset)) {
    errno = EBUSY;
    return -1;
  }
  process_heap.limits.Check(true);
  return 0;
}

// Names end with a zero byte, for they are literals.
TARN_EXPORT const char* tarn_preset() {
  PrepareThread();
  return PresetName(process_heap.preset()).data();
}

}  // extern "C"

}  // namespace tarn
