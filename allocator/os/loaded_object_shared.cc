// A reference to _dl_find_object, even a weak one, would make the loader of an older glibc refuse the whole library for
// the symbol's version. dlsym takes the loader's lock. So the function is looked up here, in the dynamic symbols of libc.
#include <atomic>

#include "allocator/os/load_order.h"
#include "allocator/os/loaded_object.h"

namespace tarn {

namespace {

std::uintptr_t FindInLibc(const char* name) {
  for (const link_map* object = FirstLoadedObject(); object != nullptr; object = object->l_next) {
    if (IsLibc(*object)) return FindFunction(*object, name);
  }
  return 0;
}

}  // namespace

LoadedObject FindLoadedObject(std::uintptr_t address) {
  constexpr std::uintptr_t kUnknown = 1;
  static constinit std::atomic<std::uintptr_t> known = kUnknown;
  std::uintptr_t function = known.load(std::memory_order_relaxed);
  if (function == kUnknown) {
    function = FindInLibc("_dl_find_object");
    known.store(function, std::memory_order_relaxed);
  }
  return FindLoadedObjectBy(reinterpret_cast<DlFindObject>(function), address);
}

}  // namespace tarn
