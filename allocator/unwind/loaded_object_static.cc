// SPDX-License-Identifier: Apache-2.0

#include "allocator/unwind/loaded_object.h"

extern "C" __attribute__((weak)) int _dl_find_object(void* address, tarn::DlFindObjectResult* result);

namespace tarn {

LoadedObject FindLoadedObject(std::uintptr_t address) { return FindLoadedObjectBy(&_dl_find_object, address); }

}  // namespace tarn
