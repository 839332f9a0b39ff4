// SPDX-License-Identifier: Apache-2.0
//
// A number that differs between CPUs (or, in the thread mode, threads) that run at the same time: a hint which of
// several equal places to use, so that they do not all use the same one. Any value is right.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/cpu_cache/slab.h"

namespace tarn {

inline std::uint32_t ShardHint() {
  const auto* id = static_cast<const char*>(__builtin_thread_pointer()) + slab_table.id_offset;
  return static_cast<std::uint32_t>(*reinterpret_cast<const volatile std::int32_t*>(id));
}

}  // namespace tarn
