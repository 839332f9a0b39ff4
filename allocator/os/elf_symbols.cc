// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/elf_symbols.h"

#include <elf.h>

#include <algorithm>
#include <string_view>

namespace tarn {

namespace {

struct DynamicTables {
  const ElfW(Sym) * symbols = nullptr;
  const char* strings = nullptr;
  const std::uint32_t* gnu_hash = nullptr;
  const std::uint32_t* hash = nullptr;
};

// An entry holds an address of the file, or one of memory: the loader adds the base in place, where the section can be
// written. A table lies in the object, as the section does, so the one of the two that is nearer to the section is
// right. A comparison with the base would not do. The vDSO of gVisor and WSL 1 has file addresses at the end of the
// address space. An object may also be loaded below its file addresses.
std::uintptr_t AddressOf(std::uintptr_t entry_value, std::uintptr_t base, std::uintptr_t section) {
  const auto distance = [section](std::uintptr_t address) {
    return address > section ? address - section : section - address;
  };
  const std::uintptr_t moved = base + entry_value;
  return distance(entry_value) <= distance(moved) ? entry_value : moved;
}

DynamicTables TablesOf(std::uintptr_t base, const ElfW(Dyn) * entry) {
  const auto section = reinterpret_cast<std::uintptr_t>(entry);
  DynamicTables tables;
  for (; entry->d_tag != DT_NULL; ++entry) {
    const std::uintptr_t value = AddressOf(entry->d_un.d_ptr, base, section);
    if (entry->d_tag == DT_SYMTAB) tables.symbols = reinterpret_cast<const ElfW(Sym)*>(value);
    if (entry->d_tag == DT_STRTAB) tables.strings = reinterpret_cast<const char*>(value);
    if (entry->d_tag == DT_GNU_HASH) tables.gnu_hash = reinterpret_cast<const std::uint32_t*>(value);
    if (entry->d_tag == DT_HASH) tables.hash = reinterpret_cast<const std::uint32_t*>(value);
  }
  return tables;
}

bool Defines(const DynamicTables& tables, std::uint32_t index, const char* name) {
  const ElfW(Sym)& symbol = tables.symbols[index];
  return symbol.st_shndx != SHN_UNDEF && std::string_view(tables.strings + symbol.st_name) == name;
}

// Four words, then the Bloom filter (not needed here), the buckets, and a hash per symbol from the first hashed one.
struct GnuHash {
  explicit GnuHash(const std::uint32_t* words)
      : bucket_count(words[0]),
        first_symbol(words[1]),
        buckets(words + 4 + words[2] * (sizeof(ElfW(Addr)) / sizeof(std::uint32_t))),
        chain(buckets + bucket_count) {}

  std::uint32_t bucket_count;
  std::uint32_t first_symbol;
  const std::uint32_t* buckets;
  const std::uint32_t* chain;
};

// The index of the symbol in the table; 0, which no symbol has, where it is not there.
std::uint32_t FindByGnuHash(const DynamicTables& tables, const char* name) {
  std::uint32_t hash = 5381;
  for (const char* c = name; *c != '\0'; ++c) hash = hash * 33 + static_cast<unsigned char>(*c);
  const GnuHash table(tables.gnu_hash);
  std::uint32_t index = table.bucket_count == 0 ? 0 : table.buckets[hash % table.bucket_count];
  if (index < table.first_symbol) return 0;
  for (;; ++index) {
    const std::uint32_t entry = table.chain[index - table.first_symbol];
    if ((entry | 1) == (hash | 1) && Defines(tables, index, name)) return index;
    if ((entry & 1) != 0) return 0;
  }
}

// The older table: two words, the second of which is the number of symbols. Only the vDSO of some kernels needs it,
// which has a dozen symbols.
std::uint32_t FindInRow(const DynamicTables& tables, const char* name) {
  const std::uint32_t symbol_count = tables.hash[1];
  for (std::uint32_t index = 1; index < symbol_count; ++index) {
    if (Defines(tables, index, name)) return index;
  }
  return 0;
}

// The number of symbols. The hash table says so by its longest chain: chains lie one behind the other.
std::uint32_t CountSymbols(const DynamicTables& tables) {
  if (tables.hash != nullptr) return tables.hash[1];
  if (tables.gnu_hash == nullptr) return 0;
  const GnuHash hash(tables.gnu_hash);
  std::uint32_t last = 0;
  for (std::uint32_t i = 0; i < hash.bucket_count; ++i) last = std::max(last, hash.buckets[i]);
  if (last < hash.first_symbol) return 0;
  while ((hash.chain[last - hash.first_symbol] & 1) == 0) ++last;
  return last + 1;
}

}  // namespace

std::uintptr_t FindElfFunction(std::uintptr_t base, const ElfW(Dyn) * dynamic_section, const char* name) {
  const DynamicTables tables = TablesOf(base, dynamic_section);
  if (tables.symbols == nullptr || tables.strings == nullptr) return 0;
  std::uint32_t index = 0;
  if (tables.gnu_hash != nullptr) {
    index = FindByGnuHash(tables, name);
  } else if (tables.hash != nullptr) {
    index = FindInRow(tables, name);
  }
  return index == 0 ? 0 : base + tables.symbols[index].st_value;
}

ElfFunction ElfFunctionAt(std::uintptr_t base, const ElfW(Dyn) * dynamic_section, std::uintptr_t address) {
  const DynamicTables tables = TablesOf(base, dynamic_section);
  if (tables.symbols == nullptr || tables.strings == nullptr) return {};
  const std::uint32_t count = CountSymbols(tables);
  for (std::uint32_t i = 1; i < count; ++i) {
    const ElfW(Sym)& symbol = tables.symbols[i];
    const std::uintptr_t start = base + symbol.st_value;
    if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_shndx == SHN_UNDEF) continue;
    if (address >= start && address - start < symbol.st_size) return {tables.strings + symbol.st_name, start};
  }
  return {};
}

std::string_view ElfObjectName(std::uintptr_t base, const ElfW(Dyn) * dynamic_section) {
  const char* const strings = TablesOf(base, dynamic_section).strings;
  for (const ElfW(Dyn)* entry = dynamic_section; strings != nullptr && entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_SONAME) return strings + entry->d_un.d_val;
  }
  return {};
}

}  // namespace tarn
