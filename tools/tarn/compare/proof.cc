// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/proof.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <utility>

#include "tools/base/error.h"
#include "tools/inspect/process_maps.h"
#include "tools/inspect/process_memory.h"

namespace tarn::tool {

namespace {

// A file's slots and stubs are addresses in the file; the shift leads from there into the process.
struct LoadedFile {
  const ElfFacts* elf;
  std::uint64_t shift;
};

std::map<std::string, LoadedFile> LoadedFiles(const std::vector<ProcessMapping>& maps,
                                              const std::vector<std::string>& mapped) {
  static const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  std::map<std::string, LoadedFile> files;
  for (const std::string& path : mapped) {
    const ElfFacts& elf = KnownElf(path);
    const auto first = std::ranges::find(maps, path, &ProcessMapping::file);
    // The loader maps the page of the lowest address first.
    files[path] = {&elf, first->start - elf.address / page_bytes * page_bytes};
  }
  return files;
}

bool IsLibc(const std::string& path) { return std::filesystem::path(path).filename().string().starts_with("libc.so."); }

// Each slot is a pair: the file that it leads to, and the file that holds it.
//
// A slot that leads into its own file is a lazy one that was not called yet, and says nothing. Only libc calls itself.
// That counts where no other slot speaks, because libc's own slots are lazy under another allocator, too. It does not
// while the loader is at work: it relocates libc first, and the slots of the program lead nowhere yet.
std::set<std::string> OwnersOf(const std::set<std::pair<std::string, std::string>>& slots, bool is_relocated) {
  std::set<std::string> others;
  std::set<std::string> libc;
  for (const auto& [owner, holder] : slots) {
    if (owner != holder) others.insert(owner);
    if (IsLibc(owner)) libc.insert(owner);
  }
  return others.empty() && is_relocated ? libc : others;
}

}  // namespace

const ElfFacts& KnownElf(const std::string& path) {
  static std::map<std::string, ElfFacts> known;
  const auto found = known.find(path);
  return found != known.end() ? found->second : known.emplace(path, ReadElf(path)).first->second;
}

MallocUse LookAtMalloc(pid_t pid) {
  MallocUse use;
  std::vector<ProcessMapping> maps;
  try {
    maps = ReadMaps(pid);
  } catch (const ToolError&) {
    return use;  // It has ended: a process that nobody has waited for yet has no mappings.
  }
  for (const ProcessMapping& mapping : maps) {
    if (mapping.is_executable && mapping.file.starts_with("/") &&
        std::ranges::find(use.mapped, mapping.file) == use.mapped.end())
      use.mapped.push_back(mapping.file);
  }
  if (use.mapped.empty()) return use;
  std::error_code error;
  use.executable = std::filesystem::read_symlink(fmt::format("/proc/{}/exe", pid), error);
  const std::map<std::string, LoadedFile> files = LoadedFiles(maps, use.mapped);
  std::set<std::uint64_t> stubs;
  for (const auto& [path, file] : files) {
    for (const std::uint64_t stub : file.elf->malloc_stubs) stubs.insert(stub + file.shift);
  }
  const ProcessMemory memory(pid);
  std::set<std::pair<std::string, std::string>> slots;
  bool is_relocated = true;
  for (const auto& [path, file] : files) {
    for (const std::uint64_t slot : file.elf->malloc_slots) {
      std::uint64_t address = 0;
      if (!memory.Read(slot + file.shift, &address, sizeof(address)) || stubs.contains(address)) continue;
      const auto owner = std::ranges::find_if(
          maps, [&](const ProcessMapping& mapping) { return mapping.start <= address && address < mapping.limit; });
      if (owner == maps.end()) {
        is_relocated = false;
      } else if (owner->file.starts_with("/")) {
        slots.emplace(owner->file, path);
      }
    }
  }
  use.owners = OwnersOf(slots, is_relocated);
  return use;
}

}  // namespace tarn::tool
