// SPDX-License-Identifier: Apache-2.0
//
// A reference to _dl_find_object, even a weak one, would make the loader of an older glibc refuse the whole library for
// the symbol's version. So the function is looked up when it is needed.
#include <atomic>

#include "allocator/os/libc_function.h"
#include "allocator/unwind/loaded_object.h"

namespace tarn {

LoadedObject FindLoadedObject(std::uintptr_t address) {
  constexpr std::uintptr_t kUnknown = 1;
  static constinit std::atomic<std::uintptr_t> known = kUnknown;
  std::uintptr_t function = known.load(std::memory_order_relaxed);
  if (function == kUnknown) {
    function = FindLibcFunction("_dl_find_object");
    known.store(function, std::memory_order_relaxed);
  }
  return FindLoadedObjectBy(reinterpret_cast<DlFindObject>(function), address);
}

}  // namespace tarn
