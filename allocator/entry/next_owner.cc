// SPDX-License-Identifier: Apache-2.0

#include "allocator/entry/next_owner.h"

#include <malloc.h>

#include <atomic>
#include <cstdint>

#include "allocator/os/load_order.h"
#include "allocator/os/stack_memory.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

// The address of the next object that defines free; null: there is none.
const link_map* FindNextOwner() {
  const link_map* const own = OwnLoadedObject();
  for (const link_map* object = own == nullptr ? nullptr : own->l_next; object != nullptr; object = object->l_next) {
    if (FindFunction(*object, "free") != 0) return object;
  }
  return nullptr;
}

// Looked for once. Objects that were loaded at the start are never unloaded; one that came later may be, but stands
// behind libc.
const link_map* NextOwner() {
  static constinit std::atomic<bool> known = false;
  static constinit std::atomic<const link_map*> owner = nullptr;
  if (!known.load(std::memory_order_acquire)) {
    owner.store(FindNextOwner(), std::memory_order_relaxed);
    // Release: who sees that it is known sees it.
    known.store(true, std::memory_order_release);
  }
  return owner.load(std::memory_order_relaxed);
}

template <typename Function>
Function* Find(const link_map& owner, const char* name) {
  return reinterpret_cast<Function*>(FindFunction(owner, name));
}

// True if libc's malloc has handed out memory at all. mallinfo2 is of glibc 2.33.
bool LibcHasAllocated(const link_map& libc) {
  if (auto* const mallinfo2 = Find<struct mallinfo2()>(libc, "mallinfo2")) {
    const struct mallinfo2 info = mallinfo2();
    return info.arena != 0 || info.hblkhd != 0;
  }
  if (auto* const mallinfo = Find<struct mallinfo()>(libc, "mallinfo")) {
    const struct mallinfo info = mallinfo();
    return info.arena != 0 || info.hblkhd != 0;
  }
  return false;
}

// True if the words before the object are those of glibc's malloc (malloc.c, struct malloc_chunk): the size, a multiple
// of 16, with three flags below; for a chunk with a mapping of its own, what lies before it in the mapping.
bool LooksLikeLibcs(const void* object) {
  constexpr std::uintptr_t kFlags = 7;
  constexpr std::uintptr_t kMapped = 2;
  constexpr std::uintptr_t kInArena = 4;
  constexpr std::uintptr_t kHeapBytes = std::uintptr_t{64} << 20;  // HEAP_MAX_SIZE on 64-bit systems
  const auto address = reinterpret_cast<std::uintptr_t>(object);
  if (address % 16 != 0 || address < 4096 || address >> 47 != 0) return false;
  if (!IsReadable(address - 16) || !IsReadable(address - 8)) return false;
  const auto* const words = reinterpret_cast<const std::uintptr_t*>(address);
  const std::uintptr_t flags = words[-1] & kFlags;
  const std::uintptr_t bytes = words[-1] & ~kFlags;
  if (bytes < 32 || bytes % 16 != 0 || bytes >> 47 != 0) return false;
  if ((flags & kMapped) != 0) {
    const std::uintptr_t before = words[-2];
    const std::uintptr_t start = address - 16 - before;
    if (before > bytes || start % OsPageBytes() != 0 || (before + bytes) % OsPageBytes() != 0) return false;
  } else if ((flags & kInArena) != 0) {
    // The heap's first word is the address of its arena.
    const std::uintptr_t heap = address & ~(kHeapBytes - 1);
    if (!IsReadable(heap)) return false;
    const std::uintptr_t arena = *reinterpret_cast<const std::uintptr_t*>(heap);
    if (arena % 8 != 0 || !IsReadable(arena)) return false;
  } else if (!IsReadable((address - 8 + bytes) & ~std::uintptr_t{7})) {
    // The next chunk's size, or the top's.
    return false;
  }
  return true;
}

// The libc that has handed out the object. A chunk does not name its libc, so there is an answer only where one libc of
// all namespaces has allocated; else null. `any`: the caller reads the chunk's header, for which each libc will do.
const link_map* LibcOf(const link_map* libc, const void* object, bool any) {
  if (!LooksLikeLibcs(object)) return nullptr;
  const link_map* found = LibcHasAllocated(*libc) ? libc : nullptr;
  const link_map* first;
  for (std::size_t number = 1; (first = FirstObjectOfNamespace(number)) != nullptr; ++number) {
    const link_map* const other = FindLibc(first, nullptr);
    if (other == nullptr || !LibcHasAllocated(*other)) continue;
    if (found != nullptr) return any ? found : nullptr;
    found = other;
  }
  return found;
}

// The owner, if it may own the object; else null.
const link_map* OwnerOf(const void* object, bool any_libc = false) {
  const link_map* const owner = NextOwner();
  if (owner == nullptr || owner != LoadedLibc()) return owner;
  return LibcOf(owner, object, any_libc);
}

}  // namespace

bool FreeByNextOwner(void* object) {
  const link_map* const owner = OwnerOf(object);
  if (owner == nullptr) return false;
  Find<void(void*)>(*owner, "free")(object);
  return true;
}

bool ReallocateByNextOwner(void* object, std::size_t bytes, void** result) {
  const link_map* const owner = OwnerOf(object);
  auto* const realloc = owner == nullptr ? nullptr : Find<void*(void*, std::size_t)>(*owner, "realloc");
  if (realloc == nullptr) return false;
  *result = realloc(object, bytes);
  return true;
}

bool UsableBytesByNextOwner(const void* object, std::size_t* bytes) {
  const link_map* const owner = OwnerOf(object, true);
  auto* const usable = owner == nullptr ? nullptr : Find<std::size_t(const void*)>(*owner, "malloc_usable_size");
  if (usable == nullptr) return false;
  *bytes = usable(object);
  return true;
}

}  // namespace tarn
