// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/program.h"

#include <elf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string_view>

#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

// A file in memory, of which parts can be looked at without running over its end.
class MappedFile {
 public:
  explicit MappedFile(const std::string& path) {
    const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    struct stat status;
    if (fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
      void* start = mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0);
      if (start != MAP_FAILED) bytes_ = {static_cast<const char*>(start), static_cast<std::size_t>(status.st_size)};
    }
    close(file);
  }
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile() {
    if (!bytes_.empty()) munmap(const_cast<char*>(bytes_.data()), bytes_.size());
  }

  std::string_view bytes() const { return bytes_; }

  // A copy, for nothing promises that it is aligned in there.
  template <typename T>
  std::optional<T> Read(std::uint64_t offset) const {
    if (offset > bytes_.size() || sizeof(T) > bytes_.size() - offset) return std::nullopt;
    T value;
    memcpy(&value, bytes_.data() + offset, sizeof(T));
    return value;
  }

  std::string_view Part(std::uint64_t offset, std::uint64_t size) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) return {};
    return bytes_.substr(offset, size);
  }

 private:
  std::string_view bytes_;
};

std::optional<Elf64_Shdr> Section(const MappedFile& file, const Elf64_Ehdr& header, std::uint64_t index) {
  if (index >= header.e_shnum) return std::nullopt;
  return file.Read<Elf64_Shdr>(header.e_shoff + index * sizeof(Elf64_Shdr));
}

// The name of a symbol, without an end where the file is damaged.
std::string_view NameOf(std::string_view names, const Elf64_Sym& symbol) {
  if (symbol.st_name >= names.size()) return {};
  const std::string_view rest = names.substr(symbol.st_name);
  return rest.substr(0, rest.find('\0'));
}

bool DefinesMalloc(const MappedFile& file, const Elf64_Shdr& symbols, std::string_view names) {
  for (std::uint64_t at = 0; at + sizeof(Elf64_Sym) <= symbols.sh_size; at += sizeof(Elf64_Sym)) {
    const auto symbol = file.Read<Elf64_Sym>(symbols.sh_offset + at);
    if (!symbol) return false;
    if (symbol->st_shndx != SHN_UNDEF && symbol->st_value != 0 && NameOf(names, *symbol) == "malloc") return true;
  }
  return false;
}

// True where the loader fills the slot of this relocation with the address of a function.
bool IsFunctionSlot(std::uint64_t type) {
  return type == R_X86_64_GLOB_DAT || type == R_X86_64_JUMP_SLOT || type == R_AARCH64_GLOB_DAT ||
         type == R_AARCH64_JUMP_SLOT;
}

// Adds the slots and the stubs of one table of relocations.
void AddMallocSlots(const MappedFile& file, const Elf64_Ehdr& header, const Elf64_Shdr& table, ElfFacts* facts) {
  const auto symbols = Section(file, header, table.sh_link);
  if (!symbols || symbols->sh_type != SHT_DYNSYM) return;
  const auto strings = Section(file, header, symbols->sh_link);
  if (!strings) return;
  const std::string_view names = file.Part(strings->sh_offset, strings->sh_size);
  for (std::uint64_t at = 0; at + sizeof(Elf64_Rela) <= table.sh_size; at += sizeof(Elf64_Rela)) {
    const auto entry = file.Read<Elf64_Rela>(table.sh_offset + at);
    if (!entry) return;
    if (!IsFunctionSlot(ELF64_R_TYPE(entry->r_info))) continue;
    const auto symbol = file.Read<Elf64_Sym>(symbols->sh_offset + ELF64_R_SYM(entry->r_info) * sizeof(Elf64_Sym));
    if (!symbol) return;
    const std::string_view name = NameOf(names, *symbol);
    if (name != "malloc" && name != "calloc" && name != "realloc" && name != "free") continue;
    facts->malloc_slots.push_back(entry->r_offset);
    if (symbol->st_shndx == SHN_UNDEF && symbol->st_value != 0) facts->malloc_stubs.push_back(symbol->st_value);
  }
}

// Reads the symbols of malloc from the sections.
void ReadMallocSymbols(const MappedFile& file, const Elf64_Ehdr& header, ElfFacts* facts) {
  for (std::uint64_t i = 0; i < header.e_shnum; ++i) {
    const auto section = Section(file, header, i);
    if (!section) return;
    if (section->sh_type == SHT_RELA) AddMallocSlots(file, header, *section, facts);
    if (section->sh_type != SHT_DYNSYM) continue;
    const auto strings = Section(file, header, section->sh_link);
    if (!strings) continue;
    if (DefinesMalloc(file, *section, file.Part(strings->sh_offset, strings->sh_size))) facts->defines_malloc = true;
  }
}

std::string BuildId(const MappedFile& file, const Elf64_Phdr& segment) {
  std::uint64_t at = segment.p_offset;
  const std::uint64_t end = segment.p_offset + segment.p_filesz;
  const auto padded = [](std::uint64_t size) { return (size + 3) & ~std::uint64_t{3}; };
  while (at < end) {
    const auto note = file.Read<Elf64_Nhdr>(at);
    if (!note) break;
    const std::string_view name = file.Part(at + sizeof(*note), note->n_namesz);
    const std::string_view content = file.Part(at + sizeof(*note) + padded(note->n_namesz), note->n_descsz);
    if (note->n_type == NT_GNU_BUILD_ID && name == std::string_view("GNU\0", 4)) {
      std::string digits;
      for (const char byte : content) digits += fmt::format("{:02x}", static_cast<unsigned char>(byte));
      return digits;
    }
    at += sizeof(*note) + padded(note->n_namesz) + padded(note->n_descsz);
  }
  return "";
}

}  // namespace

ElfFacts ReadElf(const std::string& path) {
  ElfFacts facts;
  const MappedFile file(path);
  const auto header = file.Read<Elf64_Ehdr>(0);
  if (!header || memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_ident[EI_CLASS] != ELFCLASS64) return facts;
  facts.is_elf = true;
  std::uint64_t address = UINT64_MAX;
  for (int i = 0; i < header->e_phnum; ++i) {
    const auto segment = file.Read<Elf64_Phdr>(header->e_phoff + static_cast<std::uint64_t>(i) * sizeof(Elf64_Phdr));
    if (!segment) break;
    if (segment->p_type == PT_INTERP) facts.has_interpreter = true;
    if (segment->p_type == PT_LOAD) address = std::min(address, segment->p_vaddr);
    if (segment->p_type == PT_NOTE && facts.build_id.empty()) facts.build_id = BuildId(file, *segment);
  }
  if (address != UINT64_MAX) facts.address = address;
  ReadMallocSymbols(file, *header, &facts);
  return facts;
}

std::string FindProgram(const std::string& name) {
  const auto check = [](const std::string& path) {
    struct stat status;
    if (stat(path.c_str(), &status) != 0) return errno == EACCES ? EACCES : ENOENT;
    if (S_ISDIR(status.st_mode) || access(path.c_str(), X_OK) != 0) return EACCES;
    return 0;
  };
  int worst = ENOENT;
  if (name.find('/') != std::string::npos) {
    worst = check(name);
    if (worst == 0) return name;
  } else if (!name.empty()) {
    const char* path = getenv("PATH");
    std::string_view rest = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
    while (true) {
      const std::size_t length = std::min(rest.find(':'), rest.size());
      const std::string directory(rest.substr(0, length));
      std::string candidate = (directory.empty() ? "." : directory) + "/" + name;
      const int error = check(candidate);
      if (error == 0) return candidate;
      if (error == EACCES) worst = EACCES;
      if (length == rest.size()) break;
      rest.remove_prefix(length + 1);
    }
  }
  if (worst == EACCES)
    throw ToolError(fmt::format("{} cannot be executed: is it a program, and may you (ls -l)?", name),
                    kExitNotExecutable);
  throw ToolError(fmt::format("{} was not found; give its path, or put its directory into PATH", name), kExitNotFound);
}

std::string WhyNoPreload(const std::string& program) {
  std::string path = program;
  // An interpreter may be a script again; the kernel follows a few steps, too.
  for (int depth = 0; depth < 4; ++depth) {
    std::ifstream file(path, std::ios::binary);
    std::string line;
    char start[2] = {};
    if (!file.read(start, 2) || start[0] != '#' || start[1] != '!' || !std::getline(file, line)) break;
    const std::size_t from = line.find_first_not_of(" \t");
    if (from == std::string::npos) break;
    path = line.substr(from, line.find_first_of(" \t\r", from) - from);
  }
  struct stat status;
  if (stat(path.c_str(), &status) != 0) return "";
  const bool other_user = (status.st_mode & S_ISUID) != 0 && status.st_uid != geteuid();
  const bool other_group = (status.st_mode & S_ISGID) != 0 && status.st_gid != getegid();
  if (other_user || other_group)
    return fmt::format("{} runs with another user's rights (setuid), so the loader ignores LD_PRELOAD", path);
  const ElfFacts facts = ReadElf(path);
  if (facts.is_elf && !facts.has_interpreter)
    return fmt::format("{} is statically linked, so nothing can be preloaded into it; link it with tarn instead", path);
  return "";
}

std::string FindTarn() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  std::string tried;
  // The second is where Debian puts libraries (lib/x86_64-linux-gnu), if CMake was told so.
  for (const char* directory : {"../lib", "../" TARN_INSTALL_LIBDIR}) {
    for (const char* name : {"libtarn.so.0", "libtarn.so"}) {
      const std::filesystem::path path = (self.parent_path() / directory / name).lexically_normal();
      if (access(path.c_str(), R_OK) == 0) return path.string();
      if (tried.find(path.string()) == std::string::npos) tried += (tried.empty() ? "" : ", ") + path.string();
    }
  }
  throw ToolError(fmt::format("libtarn.so is not there (looked for {}); name it with --library PATH", tried));
}

std::string PreloadWith(const std::string& library, const char* existing) {
  if (existing == nullptr || *existing == '\0') return library;
  return library + ":" + existing;
}

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  pointers.reserve(strings.size() + 1);
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace tarn::tool
