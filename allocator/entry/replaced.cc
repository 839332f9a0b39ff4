// SPDX-License-Identifier: Apache-2.0

#include "allocator/entry/replaced.h"

#include <malloc.h>
#include <stdlib.h>

#include <algorithm>
#include <atomic>
#include <new>

#include "allocator/cpu_cache/slab.h"
#include "allocator/heap/process_heap.h"
#include "allocator/os/load_order.h"

// Tarn's own definitions, under names that nobody else defines (malloc.cc, operator_new.cc).
extern "C" {
#define TARN_OWN(name) extern __attribute__((visibility("hidden"))) const char tarn_own_##name[]
TARN_OWN(malloc);
TARN_OWN(free);
TARN_OWN(realloc);
TARN_OWN(memalign);
TARN_OWN(aligned_alloc);
TARN_OWN(posix_memalign);
TARN_OWN(new);
TARN_OWN(new_array);
TARN_OWN(new_aligned);
TARN_OWN(new_array_aligned);
TARN_OWN(delete);
TARN_OWN(delete_array);
TARN_OWN(delete_aligned);
TARN_OWN(delete_array_aligned);
#undef TARN_OWN
}

namespace tarn {

namespace {

struct Symbol {
  Function function;
  const char* name;
  const void* bound;  // the address that the loader, or the linker of a static program, has bound the name to
  const void* own;
};

// True if an object before tarn defines the function. The bound address may also be a jump table of the program, which
// takes the place of tarn's address in programs that are not position-independent.
bool IsDefinedBefore(const char* name, const link_map* own) {
  for (const link_map* object = FirstLoadedObject(); object != nullptr && object != own; object = object->l_next) {
    if (FindFunction(*object, name) != 0) return true;
  }
  return false;
}

bool LibcIsBefore(const link_map* own) {
  const link_map* const libc = LoadedLibc();
  for (const link_map* object = FirstLoadedObject(); object != nullptr && object != own; object = object->l_next) {
    if (object == libc) return true;
  }
  return false;
}

// Tarn is part of the program's file, where the linker has decided; the file's table of symbols need not say so.
bool IsPartOfTheProgram(const link_map* own) { return own == nullptr || own == FirstLoadedObject(); }

std::uint32_t FindReplaced() {
  const auto address = [](auto* function) { return reinterpret_cast<const void*>(function); };
  using Bytes = std::size_t;
  using Alignment = std::align_val_t;
  const Symbol symbols[] = {
      {Function::kMalloc, "malloc", address(&::malloc), tarn_own_malloc},
      {Function::kFree, "free", address(&::free), tarn_own_free},
      {Function::kRealloc, "realloc", address(&::realloc), tarn_own_realloc},
      {Function::kMemalign, "memalign", address(&::memalign), tarn_own_memalign},
      {Function::kAlignedAlloc, "aligned_alloc", address(&::aligned_alloc), tarn_own_aligned_alloc},
      {Function::kPosixMemalign, "posix_memalign", address(&::posix_memalign), tarn_own_posix_memalign},
      {Function::kNew, "_Znwm", address(static_cast<void* (*)(Bytes)>(&::operator new)), tarn_own_new},
      {Function::kNewArray, "_Znam", address(static_cast<void* (*)(Bytes)>(&::operator new[])), tarn_own_new_array},
      {Function::kNewAligned, "_ZnwmSt11align_val_t",
       address(static_cast<void* (*)(Bytes, Alignment)>(&::operator new)), tarn_own_new_aligned},
      {Function::kNewArrayAligned, "_ZnamSt11align_val_t",
       address(static_cast<void* (*)(Bytes, Alignment)>(&::operator new[])), tarn_own_new_array_aligned},
      {Function::kDelete, "_ZdlPv", address(static_cast<void (*)(void*) noexcept>(&::operator delete)),
       tarn_own_delete},
      {Function::kDeleteArray, "_ZdaPv", address(static_cast<void (*)(void*) noexcept>(&::operator delete[])),
       tarn_own_delete_array},
      {Function::kDeleteAligned, "_ZdlPvSt11align_val_t",
       address(static_cast<void (*)(void*, Alignment) noexcept>(&::operator delete)), tarn_own_delete_aligned},
      {Function::kDeleteArrayAligned, "_ZdaPvSt11align_val_t",
       address(static_cast<void (*)(void*, Alignment) noexcept>(&::operator delete[])), tarn_own_delete_array_aligned},
  };
  static_assert(std::size(symbols) == static_cast<std::size_t>(Function::kCount));
  const link_map* const own = OwnLoadedObject();
  std::uint32_t replaced = 0;
  for (const Symbol& symbol : symbols) {
    const void* bound = symbol.bound;
    // The compiler may not conclude that two names have two addresses.
    asm("" : "+r"(bound));
    if (bound == symbol.own) continue;
    if (IsPartOfTheProgram(own) || IsDefinedBefore(symbol.name, own)) replaced |= Bit(symbol.function);
  }
  return replaced != 0 && !IsPartOfTheProgram(own) && LibcIsBefore(own) ? 0 : replaced;
}

}  // namespace

std::uint32_t ReplacedFunctions() {
  constexpr std::uint32_t kKnown = std::uint32_t{1} << 31;
  static constinit std::atomic<std::uint32_t> known = 0;
  std::uint32_t replaced = known.load(std::memory_order_relaxed);
  if (replaced == 0) [[unlikely]] {
    replaced = FindReplaced() | kKnown;
    // Each thread finds the same, so the order does not matter.
    known.store(replaced, std::memory_order_relaxed);
  }
  return replaced & ~kKnown;
}

namespace {

// Slow paths come here often and all CPUs read these in their hit paths, so nothing is written that is there already.
template <typename T>
void StoreIfOther(T* place, T value) {
  if (__atomic_load_n(place, __ATOMIC_RELAXED) != value) __atomic_store_n(place, value, __ATOMIC_RELAXED);
}

}  // namespace

// Other threads may open them at the same time, to the same.
void OpenOperators() {
  if (!process_heap.started()) return;
  const std::uint32_t replaced = ReplacedFunctions();
  const std::size_t limit_bytes = slab_table.hit_limit_bytes;
  std::uint32_t direct = 0;
  if ((replaced & Bit(Function::kFree)) == 0) direct |= kDirectDelete;
  if (replaced == 0) direct |= kDirectDerivedDelete;
  if (replaced == 0 && !process_heap.checks()) direct |= kDirectSizedDelete;
  const std::size_t none = 0;
  StoreIfOther(&slab_table.new_limit_bytes, (replaced & Bit(Function::kMalloc)) == 0 ? limit_bytes : none);
  StoreIfOther(&slab_table.derived_new_limit_bytes, replaced == 0 ? limit_bytes : none);
  StoreIfOther(&slab_table.direct_operators, direct);
}

namespace bound {

void* Malloc(std::size_t bytes) { return ::malloc(bytes); }
void Free(void* object) { ::free(object); }
void* Reallocate(void* object, std::size_t bytes) { return ::realloc(object, bytes); }

void* AllocateAligned(std::size_t alignment, std::size_t bytes) {
  if (Replaced(Function::kMemalign)) return ::memalign(alignment, bytes);
  if (Replaced(Function::kPosixMemalign)) {
    void* object = nullptr;
    return ::posix_memalign(&object, alignment, bytes) == 0 ? object : nullptr;
  }
  // Some definitions want the size to be a multiple of the alignment, as C11 did.
  const std::size_t rounded_bytes = (bytes + alignment - 1) & ~(alignment - 1);
  return rounded_bytes < bytes ? nullptr : ::aligned_alloc(alignment, rounded_bytes);
}

}  // namespace bound

}  // namespace tarn
