// SPDX-License-Identifier: Apache-2.0
//
// Which loaded object an address belongs to, and where its unwinding table lies.
//
// glibc 2.35 and later answer this without a lock and without allocating (_dl_find_object, made for unwinders). Without
// it nothing is found. Two files offer it: loaded_object_shared.cc for libtarn.so, loaded_object_static.cc for programs
// that the allocator is linked into.
#pragma once

#include <cstdint>

namespace tarn {

// 0 in all fields: no object, or one that says nothing. `table` is the object's PT_GNU_EH_FRAME segment.
struct LoadedObject {
  std::uintptr_t start = 0;
  std::uintptr_t end = 0;
  std::uintptr_t table = 0;
  const char* name = nullptr;  // its file; empty for the program itself
  // The distance that its addresses were moved by when it was loaded, and its dynamic section; null: it has none.
  std::uintptr_t base = 0;
  const void* dynamic_section = nullptr;

  bool Covers(std::uintptr_t address) const { return address >= start && address < end; }
};

LoadedObject FindLoadedObject(std::uintptr_t address);

// glibc's structure (dlfcn.h, struct dl_find_object), part of its ABI.
struct DlFindObjectResult {
  unsigned long long flags;
  void* map_start;
  void* map_end;
  void* link_map;
  void* eh_frame;
  unsigned long long reserved[7];
};
// The first fields of its link_map (link.h, which declares the function above with a type of its own).
struct LinkMapHead {
  std::uintptr_t address;
  const char* name;
  const void* dynamic_section;
};
using DlFindObject = int (*)(void* address, DlFindObjectResult* result);

inline LoadedObject FindLoadedObjectBy(DlFindObject find, std::uintptr_t address) {
  DlFindObjectResult result = {};
  if (find == nullptr || find(reinterpret_cast<void*>(address), &result) != 0) return {};
  const auto* const link_map = static_cast<const LinkMapHead*>(result.link_map);
  return {reinterpret_cast<std::uintptr_t>(result.map_start),
          reinterpret_cast<std::uintptr_t>(result.map_end),
          reinterpret_cast<std::uintptr_t>(result.eh_frame),
          link_map->name,
          link_map->address,
          link_map->dynamic_section};
}

}  // namespace tarn
