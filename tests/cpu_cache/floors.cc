// SPDX-License-Identifier: Apache-2.0

#include "tests/cpu_cache/floors.h"

#include "allocator/cpu_cache/slab_ops.h"

namespace tarn_test {

void* Floors::Allocate(SizeClass size_class) {
  if (void* object = tarn::SlabPop(size_class)) return object;
  if (classes_are_cold && cpu_cache.IsCold(size_class)) return cpu_cache.AllocateCold(size_class);
  return cpu_cache.AllocateSlow(size_class);
}

void Floors::Free(SizeClass size_class, void* object) {
  if (tarn::SlabPush(size_class, object)) return;
  classes_are_cold&& cpu_cache.IsCold(size_class) ? cpu_cache.DeallocateCold(size_class, object, "free")
                                                  : cpu_cache.DeallocateSlow(size_class, object, "free");
}

}  // namespace tarn_test
