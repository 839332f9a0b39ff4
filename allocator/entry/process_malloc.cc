// SPDX-License-Identifier: Apache-2.0
//
// Which malloc the process uses: tarn's, or another one that stands in front of it in the search order.
#include <malloc.h>
#include <stdlib.h>

#include <cerrno>

#include "allocator/life/start_line.h"
#include "allocator/os/sanitizer.h"
#include "allocator/pages/page_map.h"
#include "allocator/unwind/loaded_object.h"

namespace tarn {

// By a try, since addresses mislead: in a program of position-dependent code, a function's address is that of the
// program's jump table. Volatile, so that the loader's choice is called and not our own definition.
const char* OtherMalloc() {
  // Which may not be ready to be tried.
  if (SanitizerServes()) return "a sanitizer";
  void* (*const volatile process_malloc)(std::size_t) = &::malloc;
  void (*const volatile process_free)(void*) = &::free;
  const int saved_errno = errno;
  void* object = process_malloc(1);
  // Every page of a span of small objects is in the page map.
  const bool is_ours = object == nullptr || page_map.SpanOf(PageId::Containing(object)) != nullptr;
  process_free(object);
  errno = saved_errno;
  if (is_ours) return nullptr;
  const LoadedObject owner = FindLoadedObject(reinterpret_cast<std::uintptr_t>(process_malloc));
  return owner.name != nullptr ? owner.name : "another library";
}

}  // namespace tarn
