// SPDX-License-Identifier: Apache-2.0
//
// Objects that the heap profile keeps a sample of.
//
// Small ones lie in spans of their own, whose pages have no class in the page map. So their frees miss the hit path,
// and no other free pays for the profile. Large ones carry the sample's number in their span.
#pragma once

#include <cstddef>

#include "allocator/base/units.h"
#include "allocator/heap/object.h"

namespace tarn {

// In a slow path that is not nested, all of these.

// A small object with a sample, for the size and the alignment that the program asked for. `shift` is the sampler's
// weight (sampler.h). One in some is guarded (misuse/guarded_objects.h). Null: there is no memory for it, but there may
// be for an ordinary object.
void* AllocateSampled(SizeClass size_class, std::size_t bytes, std::size_t alignment, unsigned shift);
// A small object among the sampled ones, without a sample. At a limit, a free of a sampled object makes room for its
// size like any other: there may be no memory but that object. The same holds for guarded ones. Null: there is none.
void* AllocateFromSampled(SizeClass size_class, std::size_t bytes, std::size_t alignment);
// The same, and nothing but that.
void* AllocateUnsampled(SizeClass size_class);
// Frees an object of kSampled; aborts when another call was first.
void FreeSampled(const Object& object, const char* call);

// Aborts when the object of kSampled is free. Needs no slow path.
void RequireLiveSampled(const Object& object, const char* call);

// Takes a sample of a large object that was just made or resized, or none, as chance has it.
void SampleLarge(Span* span, std::size_t bytes);

}  // namespace tarn
