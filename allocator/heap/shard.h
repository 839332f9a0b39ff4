// SPDX-License-Identifier: Apache-2.0
//
// A number that differs between CPUs (or, in the thread mode, threads) that run at the same time: a hint which of
// several equal places to use, so that they do not all use the same one. Any value is right.
#pragma once

#include <cstdint>

#include "allocator/cpu_cache/slab.h"

namespace tarn {

inline std::uint32_t ShardHint() { return static_cast<std::uint32_t>(ReadId(slab_table.offsets.id)); }

}  // namespace tarn
