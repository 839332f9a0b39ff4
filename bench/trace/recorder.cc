// SPDX-License-Identifier: Apache-2.0
//
// libtarn_trace.so: a library to preload before any allocator, which writes down what a program asks of it.
//
//   ALLOC_TRACE=/tmp/rec LD_PRELOAD="libtarn_trace.so libtarn.so" program ...
//
// writes /tmp/rec.PROGRAM.PID for each process (recording.h says what is in it; docs/traces.md is the manual). Every
// call is handed on to the next definition of its function: that of the allocator preloaded behind this library, or
// libc's.
//
// Invariants:
//  - An object is recorded once. An operator new that is made of malloc (the C++ library's) has been recorded by the
//    malloc within, and one that is not (tcmalloc's, tarn's) is recorded here.
//  - A child of fork is not recorded: the page with the Recording is wiped there, by whatever kind of fork it came. A
//    child of vfork works in the memory of its parent, and is recorded as a part of it. A program that a child executes
//    has a recording of its own.
//  - Like an allocator, this library needs libc alone: no C++ library, no libgcc_s.

#include <dlfcn.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "bench/trace/call_log.h"

namespace tarn::trace {
namespace {

// Our search for the next functions may allocate itself; it gets this memory, which is never freed.
alignas(16) char early_memory[16 << 10];
std::size_t early_bytes = 0;

void* AllocateEarly(std::size_t bytes) {
  void* object = early_memory + early_bytes;
  early_bytes += (bytes + 15) & ~std::size_t{15};
  if (early_bytes > sizeof(early_memory)) {
    Say("libtarn_trace: the loader wants more memory than there is for it at the start\n");
    std::abort();
  }
  return object;
}

bool IsEarly(const void* object) { return object >= early_memory && object < early_memory + sizeof(early_memory); }

// The next definitions behind ours.
struct NextFunctions {
  void* (*malloc)(std::size_t);
  void* (*calloc)(std::size_t, std::size_t);
  void* (*realloc)(void*, std::size_t);
  void (*free)(void*);
  void* (*aligned_alloc)(std::size_t, std::size_t);
  void* (*memalign)(std::size_t, std::size_t);
  int (*posix_memalign)(void**, std::size_t, std::size_t);
  void* (*valloc)(std::size_t);
  void* (*pvalloc)(std::size_t);
};
NextFunctions next;
bool is_searching = false;

template <typename Function>
void Find(Function& function, const char* name, bool is_needed) {
  function = reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
  if (function != nullptr || !is_needed) return;
  Say("libtarn_trace: there is no %s behind this library\n", name);
  std::abort();
}

// At the first call, when there is one thread only: the loader itself allocates before any thread can be.
[[gnu::noinline, gnu::cold]] void FindNext() {
  is_searching = true;
  Find(next.calloc, "calloc", true);
  Find(next.realloc, "realloc", true);
  Find(next.free, "free", true);
  Find(next.aligned_alloc, "aligned_alloc", false);
  Find(next.memalign, "memalign", false);
  Find(next.posix_memalign, "posix_memalign", false);
  Find(next.valloc, "valloc", false);
  Find(next.pvalloc, "pvalloc", false);
  Find(next.malloc, "malloc", true);
  is_searching = false;
}

// False while the search is under way, further up this stack.
bool IsReady() {
  if (next.malloc == nullptr && !is_searching) [[unlikely]]
    FindNext();
  return !is_searching;
}

}  // namespace
}  // namespace tarn::trace

using namespace tarn::trace;

extern "C" {

EXPORTED void* malloc(std::size_t bytes) {
  if (!IsReady()) [[unlikely]]
    return AllocateEarly(bytes);
  return RecordAllocation(RecordKind::kMalloc, 0, bytes, [&] { return next.malloc(bytes); });
}

EXPORTED void* calloc(std::size_t count, std::size_t bytes) {
  if (!IsReady()) [[unlikely]]
    return AllocateEarly(count * bytes);  // is zero, and small
  // An overflow has no object, so that the product is only used where it is right.
  return RecordAllocation(RecordKind::kCalloc, 0, count * bytes, [&] { return next.calloc(count, bytes); });
}

EXPORTED void free(void* object) {
  if (IsEarly(object)) [[unlikely]]
    return;
  RecordFree(object);
  if (IsReady()) next.free(object);
}

EXPORTED void* realloc(void* object, std::size_t bytes) {
  if (object == nullptr) return malloc(bytes);
  if (IsEarly(object)) {
    void* moved = malloc(bytes);
    const auto rest_bytes = static_cast<std::size_t>(early_memory + sizeof(early_memory) - static_cast<char*>(object));
    if (moved != nullptr) std::memcpy(moved, object, bytes < rest_bytes ? bytes : rest_bytes);
    return moved;
  }
  Recording* self = Current();
  const std::uint64_t from = self != nullptr ? TakeNumber(self) : 0;
  void* result = next.realloc(object, bytes);
  if (self == nullptr) return result;
  if (result != nullptr) {
    const std::uint64_t to = TakeNumber(self);
    Write(self, MakeTag(from, 0, RecordKind::kReallocFrom), object, to);
    Write(self, MakeTag(to, 0, RecordKind::kReallocTo), result, bytes);
    thread.recorded = result;
  } else if (bytes == 0) {
    Write(self, MakeTag(from, 0, RecordKind::kFree), object, 0);  // glibc's realloc to nothing
  }
  return result;  // A realloc that failed has changed nothing, and nothing is recorded.
}

EXPORTED void* reallocarray(void* object, std::size_t count, std::size_t bytes) {
  std::size_t total_bytes;
  if (__builtin_mul_overflow(count, bytes, &total_bytes)) {
    errno = ENOMEM;
    return nullptr;
  }
  return realloc(object, total_bytes);
}

EXPORTED void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  return IsReady() ? RecordAllocation(RecordKind::kAligned, alignment, bytes,
                                      [&] { return next.aligned_alloc(alignment, bytes); })
                   : nullptr;
}

EXPORTED void* memalign(std::size_t alignment, std::size_t bytes) {
  return IsReady()
             ? RecordAllocation(RecordKind::kAligned, alignment, bytes, [&] { return next.memalign(alignment, bytes); })
             : nullptr;
}

EXPORTED int posix_memalign(void** result, std::size_t alignment, std::size_t bytes) {
  if (!IsReady()) return ENOMEM;
  int problem = 0;
  RecordAllocation(RecordKind::kAligned, alignment, bytes, [&]() -> void* {
    problem = next.posix_memalign(result, alignment, bytes);
    return problem == 0 ? *result : nullptr;
  });
  return problem;
}

EXPORTED void* valloc(std::size_t bytes) {
  return IsReady() ? RecordAllocation(RecordKind::kAligned, 4096, bytes, [&] { return next.valloc(bytes); }) : nullptr;
}

EXPORTED void* pvalloc(std::size_t bytes) {
  return IsReady() ? RecordAllocation(RecordKind::kAligned, 4096, bytes, [&] { return next.pvalloc(bytes); }) : nullptr;
}

}  // extern "C"
