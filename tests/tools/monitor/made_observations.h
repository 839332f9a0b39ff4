// SPDX-License-Identifier: Apache-2.0
//
// Observations of processes that do not exist, for tests.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "tools/monitor/observation.h"
#include "tools/monitor/trend.h"

namespace tarn::tool {

// A process with that many live MiB at a second.
inline Observation At(double second, double live_mb) {
  Observation now;
  now.time_s = 1'800'000'000 + second;
  now.steady_s = second;
  now.stats.alloc_bytes = static_cast<std::uint64_t>(live_mb * kMiB);
  now.stats.next_gc_bytes = now.stats.hard_limit_bytes = UINT64_MAX;
  return now;
}

// A pool of that many live bytes.
inline tarn_registry_record Pool(const std::string& name, std::uint32_t kind, std::int64_t bytes) {
  tarn_registry_record pool{};
  pool.kind = kind;
  std::memcpy(pool.name, name.data(), std::min(name.size(), sizeof pool.name - 1));
  pool.live_bytes = bytes;
  pool.capacity_bytes = 2 * bytes;
  return pool;
}

}  // namespace tarn::tool
