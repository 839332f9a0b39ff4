// A reference to _dl_find_object, even a weak one, would make the loader of an older glibc refuse the whole library for
// the symbol's version. dlsym takes the loader's lock. So the function is looked up here, in the dynamic symbols of libc,
// which stands in the list that the loader keeps for debuggers; the program's DT_DEBUG entry leads there. The list is walked without the lock: what stands before
// libc was loaded at the start, and stays. Sources: the ELF specification; "ELF: symbol lookup via DT_GNU_HASH" by
// flapenguin for the hash table's layout.
#include <elf.h>
#include <link.h>
#include <sys/auxv.h>

#include <atomic>
#include <cstring>
#include <string_view>

#include "allocator/os/loaded_object.h"

namespace tarn {

namespace {

struct DynamicTables {
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const std::uint32_t* hash = nullptr;
};

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

DynamicTables TablesOf(const link_map& object) {
  DynamicTables tables;
  for (const ElfW(Dyn)* entry = object.l_ld; entry->d_tag != DT_NULL; ++entry) {
    // The loader turns offsets into addresses in place, where the section can be written.
    const std::uintptr_t value =
        entry->d_un.d_ptr >= object.l_addr ? entry->d_un.d_ptr : object.l_addr + entry->d_un.d_ptr;
    if (entry->d_tag == DT_SYMTAB) tables.symbols = reinterpret_cast<const ElfW(Sym)*>(value);
    if (entry->d_tag == DT_STRTAB) tables.strings = reinterpret_cast<const char*>(value);
    if (entry->d_tag == DT_GNU_HASH) tables.hash = reinterpret_cast<const std::uint32_t*>(value);
  }
  return tables;
}

// 0: there is none.
std::uintptr_t FindSymbol(const link_map& object, const char* name) {
  const DynamicTables tables = TablesOf(object);
  if (tables.symbols == nullptr || tables.strings == nullptr || tables.hash == nullptr) return 0;
  std::uint32_t hash = 5381;
  for (const char* c = name; *c != '\0'; ++c) hash = hash * 33 + static_cast<unsigned char>(*c);
  // Four words, then the Bloom filter (not needed here), the buckets, and a hash per symbol from the first hashed one.
  const std::uint32_t bucket_count = tables.hash[0];
  const std::uint32_t first_symbol = tables.hash[1];
  const std::uint32_t bloom_words = tables.hash[2];
  const std::uint32_t* const buckets = tables.hash + 4 + bloom_words * (sizeof(ElfW(Addr)) / sizeof(std::uint32_t));
  const std::uint32_t* const chain = buckets + bucket_count;
  std::uint32_t index = bucket_count == 0 ? 0 : buckets[hash % bucket_count];
  if (index < first_symbol) return 0;
  for (;; ++index) {
    const std::uint32_t entry = chain[index - first_symbol];
    const ElfW(Sym)& symbol = tables.symbols[index];
    if ((entry | 1) == (hash | 1) && symbol.st_shndx != SHN_UNDEF &&
        std::strcmp(tables.strings + symbol.st_name, name) == 0) {
      return object.l_addr + symbol.st_value;
    }
    if ((entry & 1) != 0) return 0;
  }
}

}  // namespace

LoadedObject FindLoadedObject(std::uintptr_t address) {
  constexpr std::uintptr_t kUnknown = 1;
  static constinit std::atomic<std::uintptr_t> known = kUnknown;
  std::uintptr_t function = known.load(std::memory_order_relaxed);
  if (function == kUnknown) {
    const link_map* const libc = FindLibc();
    function = libc == nullptr ? 0 : FindSymbol(*libc, "_dl_find_object");
    known.store(function, std::memory_order_relaxed);
  }
  return FindLoadedObjectBy(reinterpret_cast<DlFindObject>(function), address);
}

}  // namespace tarn
