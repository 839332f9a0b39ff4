// SPDX-License-Identifier: Apache-2.0
//
// The hit paths: all that a malloc or free of a small object runs when the CPU's slab can serve it.
//
// For malloc.cc and operator_new.cc alone. Read first; then slab_ops_x86_64.h for the sequences, then
// allocate.h and free.h for what happens on a miss. tests/golden holds the instruction counts.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/cpu_cache/slab_ops.h"
#include "allocator/pages/page_map.h"
#include "size_classes/size_classes.h"

namespace tarn {

// The classes of operator new at (bytes + 7) / 8: like malloc's, but for the 8-byte class.
inline constexpr auto kNewSizeClasses = [] {
  std::array<SizeClass, kSmallLookupMaxBytes / 8 + 1> classes = {};
  for (std::size_t i = 0; i < classes.size(); ++i) classes[i] = NewSizeClass(i * 8);
  return classes;
}();

// False: take the slow path, whatever the reason is (too large, nothing cached, not started yet, a sample is due). A
// truth value and not a null pointer, because clang 14 knows of a value that an asm goto has set nothing but its type:
// it would make up a null pointer for the miss, and test for it on the way of the hit (3 instructions).
TARN_ALWAYS_INLINE bool MallocHit(std::size_t bytes, void** object) {
  if (bytes >= slab_table.hit_limit_bytes) [[unlikely]]
    return false;
  return SlabTryPop(kSmallSizeClasses[SmallLookupIndex(bytes)], object);
}

// `limit_bytes` is that of the form of operator new, see SlabTable.
TARN_ALWAYS_INLINE bool NewHit(std::size_t bytes, std::size_t limit_bytes, void** object) {
  if (bytes >= limit_bytes) [[unlikely]]
    return false;
  return SlabTryPop(kNewSizeClasses[(bytes + 7) >> 3], object);
}

// False: nothing happened. Any pointer is a valid argument; the class of what is not a small object is 0, which has no
// room in any slab. An address where no page of ours was ever near must not come to the push: before the allocator has
// started there are no such pages, and the sequence would not know where rseq_cs lies.
TARN_ALWAYS_INLINE bool FreeHit(void* object) {
  SizeClass size_class;
  if (!page_map.FindClass(reinterpret_cast<std::uintptr_t>(object), &size_class)) [[unlikely]]
    return false;
  return SlabPush(size_class, object);
}

// As FreeHit, for the forms of operator delete that `direct` names: false where the program has replaced what the form
// is defined by, or checks want to see its size.
TARN_ALWAYS_INLINE bool DeleteHit(void* object, std::uint32_t direct) {
  if ((slab_table.direct_operators & direct) == 0) [[unlikely]]
    return false;
  return FreeHit(object);
}

}  // namespace tarn
