// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/load_order.h"

#include <elf.h>
#include <sys/auxv.h>

#include <atomic>
#include <string_view>

#include "allocator/base/attributes.h"
#include "allocator/os/elf_symbols.h"

// The dynamic section of the object that this code is linked into. A static program has none.
extern "C" __attribute__((weak, visibility("hidden"))) const ElfW(Dyn) tarn_own_dynamic_section[] asm("_DYNAMIC");

namespace tarn {

namespace {

// The program's DT_DEBUG entry leads to the list. Source: the ELF specification.
const r_debug* FindDebuggersList() {
  const auto* segments = reinterpret_cast<const ElfW(Phdr)*>(::getauxval(AT_PHDR));
  const unsigned long count = ::getauxval(AT_PHNUM);
  // A program without PT_PHDR is not relocated, or it has no loader: a static program may relocate itself, and has a
  // dynamic section then.
  std::uintptr_t base = 0;
  bool has_loader = false;
  for (unsigned long i = 0; i < count; ++i) {
    if (segments[i].p_type == PT_PHDR) base = reinterpret_cast<std::uintptr_t>(segments) - segments[i].p_vaddr;
    has_loader = has_loader || segments[i].p_type == PT_PHDR || segments[i].p_type == PT_INTERP;
  }
  if (!has_loader) return nullptr;
  for (unsigned long i = 0; i < count; ++i) {
    if (segments[i].p_type != PT_DYNAMIC) continue;
    const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(base + segments[i].p_vaddr);
    for (; entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag == DT_DEBUG) return reinterpret_cast<const r_debug*>(entry->d_un.d_ptr);
    }
  }
  return nullptr;
}

}  // namespace

const link_map* FirstLoadedObject() {
  const r_debug* const list = FindDebuggersList();
  return list == nullptr ? nullptr : list->r_map;
}

const link_map* FirstObjectOfNamespace(std::size_t number) {
  // glibc's struct r_debug_extended (link.h), which older headers lack.
  struct ExtendedList {
    r_debug list;
    const ExtendedList* next;
  };
  constexpr int kExtendedVersion = 2;
  const r_debug* const first = FindDebuggersList();
  if (first == nullptr || first->r_version < kExtendedVersion) return nullptr;
  const auto* list = reinterpret_cast<const ExtendedList*>(first);
  for (; list != nullptr && number != 0; --number) list = list->next;
  return list == nullptr ? nullptr : list->list.r_map;
}

const link_map* OwnLoadedObject() {
  const ElfW(Dyn)* own = tarn_own_dynamic_section;
  // The compiler may not conclude that a section with a name has an address.
  asm("" : "+r"(own));
  if (own == nullptr) return nullptr;
  for (const link_map* object = FirstLoadedObject(); object != nullptr; object = object->l_next) {
    if (object->l_ld == own) return object;
  }
  return nullptr;
}

const link_map* FindLibc(const link_map* first, const link_map* own) {
  for (const link_map* object = first; object != nullptr; object = object->l_next) {
    if (std::string_view(object->l_name).ends_with("/libc.so.6")) return object;
  }
  // Only here is memory of all objects read, which costs page faults.
  for (const link_map* object = first; object != nullptr; object = object->l_next) {
    if (ElfObjectName(object->l_addr, object->l_ld) == "libc.so.6") return object;
  }
  // A library that stands in front of libc may define one of these, to do something before it calls libc's.
  for (const link_map* object = first; object != nullptr; object = object->l_next) {
    if (object != own && FindFunction(*object, "gnu_get_libc_version") != 0 &&
        FindFunction(*object, "__libc_start_main") != 0) {
      return object;
    }
  }
  return nullptr;
}

const link_map* LoadedLibc() {
  // libc is loaded at the start and stays. Any of several threads stores the same.
  TARN_IN_TOUCHED_DATA static constinit std::atomic<const link_map*> known = nullptr;
  const link_map* libc = known.load(std::memory_order_relaxed);
  if (libc == nullptr) {
    libc = FindLibc(FirstLoadedObject(), OwnLoadedObject());
    known.store(libc, std::memory_order_relaxed);
  }
  return libc;
}

std::uintptr_t FindFunction(const link_map& object, const char* name) {
  return FindElfFunction(object.l_addr, object.l_ld, name);
}

}  // namespace tarn
