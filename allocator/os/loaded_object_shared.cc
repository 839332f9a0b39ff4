// A reference to _dl_find_object, even a weak one, would make the loader of an older glibc refuse the whole library for
// the symbol's version. dlsym takes the loader's lock. So the function is looked up here, in the dynamic symbols of libc,
// which stands in the list that the loader keeps for debuggers; the program's DT_DEBUG entry leads there. The list is
// walked without the lock: what stands before libc was loaded at the start, and stays. Source: the ELF specification.
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include <atomic>
#include <string_view>

#include "allocator/os/elf_symbols.h"
#include "allocator/os/loaded_object.h"

namespace tarn {

namespace {

const r_debug* FindDebuggersList() {
  const auto* segments = reinterpret_cast<const ElfW(Phdr)*>(::getauxval(AT_PHDR));
  const unsigned long count = ::getauxval(AT_PHNUM);
  // A program without PT_PHDR is not relocated.
  std::uintptr_t base = 0;
  for (unsigned long i = 0; i < count; ++i) {
    if (segments[i].p_type == PT_PHDR) base = reinterpret_cast<std::uintptr_t>(segments) - segments[i].p_vaddr;
  }
  for (unsigned long i = 0; i < count; ++i) {
    if (segments[i].p_type != PT_DYNAMIC) continue;
    const auto* entry = reinterpret_cast<const ElfW(Dyn)*>(base + segments[i].p_vaddr);
    for (; entry->d_tag != DT_NULL; ++entry) {
      if (entry->d_tag == DT_DEBUG) return reinterpret_cast<const r_debug*>(entry->d_un.d_ptr);
    }
  }
  return nullptr;
}

const link_map* FindLibc() {
  constexpr std::string_view kLibc = "/libc.so.6";
  const r_debug* const list = FindDebuggersList();
  for (const link_map* object = list == nullptr ? nullptr : list->r_map; object != nullptr; object = object->l_next) {
    if (std::string_view(object->l_name).ends_with(kLibc)) return object;
  }
  return nullptr;
}

}  // namespace

LoadedObject FindLoadedObject(std::uintptr_t address) {
  constexpr std::uintptr_t kUnknown = 1;
  static constinit std::atomic<std::uintptr_t> known = kUnknown;
  std::uintptr_t function = known.load(std::memory_order_relaxed);
  if (function == kUnknown) {
    const link_map* const libc = FindLibc();
    function = libc == nullptr ? 0 : FindElfFunction(libc->l_addr, libc->l_ld, "_dl_find_object");
    known.store(function, std::memory_order_relaxed);
  }
  return FindLoadedObjectBy(reinterpret_cast<DlFindObject>(function), address);
}

}  // namespace tarn
