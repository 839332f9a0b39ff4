// SPDX-License-Identifier: Apache-2.0
//
// The hardened mode: what an attacker needs to know of the heap is random, and freed memory is empty and rests.
//
// The hit paths stay closed. hit_limit_bytes stays 0, and all small objects lie among the sampled ones
// (heap/sampled_objects.h), most of them without a sample. The page map has no class for their pages, so every call
// takes its slow path, and the ordinary mode pays nothing. Each object has a word apart from the program's memory, with
// its sample or the fact that it was freed. So the call sees a second free, while the object rests and after.
//
//   allocation   a free slot of a span at random; a slot that was used before must still be zero
//   free         the word is claimed, the memory is zeroed, the object rests (misuse/delayed_frees.h)
//   large        the memory goes back to the kernel at the free; the addresses rest, and nobody can access them
//
// What rests goes back when memory is short and in malloc_trim. In a slow path that is not nested, all of these.
#pragma once

#include <cstddef>

#include "allocator/base/units.h"
#include "allocator/misuse/hardened_mode.h"
#include "allocator/pages/span.h"

namespace tarn {

// An object for the size and the alignment that the program asked for. Null: there is no memory.
[[nodiscard]] void* AllocateHardened(SizeClass size_class, std::size_t bytes, std::size_t alignment);
// The object goes to rest. The caller has claimed it.
void RetireHardened(void* object, SizeClass size_class, const char* call);
// The same for a large object. False: it does not rest, and is the caller's to deallocate.
[[nodiscard]] bool RetireLarge(Span* span);
// All that rests goes back to the spans and to the page heap.
void EmptyHardenedQuarantine(const char* call);

// Reports a write to an object that was freed before and is about to be handed out: it is not zero any more.
void RequireZero(const void* object, std::size_t bytes);

}  // namespace tarn
