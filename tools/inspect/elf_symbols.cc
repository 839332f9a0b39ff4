// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/elf_symbols.h"

#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <unordered_map>
#include <utility>

#include "tools/base/text.h"
#include "tools/inspect/debug_files.h"
#include "tools/inspect/range_map.h"
#include "tools/inspect/symbol_names.h"

namespace tarn::tool {

class ElfSymbols::File {
 public:
  File() = default;
  ~File() {
    if (dwfl_ != nullptr) dwfl_end(dwfl_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool Open(int fd, const std::string& path, const std::vector<std::string>& debug_directories) {
    path_ = path;
    debug_directories_ = debug_directories;
    debug_directories_.push_back("/usr/lib/debug");
    callbacks_.find_elf = [](Dwfl_Module*, void**, const char*, Dwarf_Addr, char**, Elf**) { return -1; };
    callbacks_.find_debuginfo = FindDebugFile;
    callbacks_.section_address = dwfl_offline_section_address;
    dwfl_ = dwfl_begin(&callbacks_);
    if (dwfl_ != nullptr) {
      dwfl_report_begin(dwfl_);
      // From here on the file is libdwfl's, if it takes it.
      module_ = dwfl_report_elf(dwfl_, path.c_str(), path.c_str(), fd, 0, false);
      dwfl_report_end(dwfl_, nullptr, nullptr);
    }
    if (module_ == nullptr) {
      close(fd);
      return false;
    }
    elf_ = dwfl_module_getelf(module_, &bias_);
    if (elf_ == nullptr) return false;
    void** user_data = nullptr;
    dwfl_module_info(module_, &user_data, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
    *user_data = this;
    ReadSegments();
    ReadBuildId();
    return true;
  }

  const std::string& build_id() const { return build_id_; }

  std::optional<std::uint64_t> AddressOfOffset(std::uint64_t offset) const {
    for (const GElf_Phdr& segment : executable_segments_)
      if (offset >= segment.p_offset && offset - segment.p_offset < segment.p_filesz)
        return offset - segment.p_offset + segment.p_vaddr;
    return std::nullopt;
  }

  const std::vector<Frame>& Find(std::uint64_t address) {
    const auto [found, is_new] = frames_.try_emplace(address);
    if (is_new) found->second = Look(address);
    return found->second;
  }

 private:
  // The callback of libdwfl for a file without debug information. Returns a descriptor of the file that has it, or -1.
  // libdwfl's own search (debug_files.h) runs only where DEBUGINFOD_URLS names a server.
  static int FindDebugFile(Dwfl_Module* module, void** user_data, const char* name, Dwarf_Addr base, const char* file,
                           const char* link, GElf_Word crc, char** found_name) {
    auto* self = static_cast<File*>(*user_data);
    const int fd = OpenDebugFile(self->path_, self->build_id_, self->debug_directories_, link, crc);
    if (fd >= 0 || std::getenv("DEBUGINFOD_URLS") == nullptr) return fd;
    return dwfl_standard_find_debuginfo(module, user_data, name, base, file, link, crc, found_name);
  }

  void ReadSegments() {
    std::size_t count = 0;
    if (elf_getphdrnum(elf_, &count) != 0) return;
    for (std::size_t i = 0; i < count; ++i) {
      GElf_Phdr segment;
      if (gelf_getphdr(elf_, static_cast<int>(i), &segment) == nullptr) continue;
      if (segment.p_type == PT_LOAD && (segment.p_flags & PF_X) != 0) executable_segments_.push_back(segment);
    }
  }

  void ReadBuildId() {
    const unsigned char* bits = nullptr;
    GElf_Addr where = 0;
    const int size = dwfl_module_build_id(module_, &bits, &where);
    if (size > 0) build_id_ = HexDigits({bits, static_cast<std::size_t>(size)});
  }

  // Debug files are looked for when the first name is asked for: most files of a process have none in any stack.
  void ReadTables() {
    if (has_tables_) return;
    has_tables_ = true;
    Dwarf* const dwarf = dwfl_module_getdwarf(module_, &dwarf_bias_);
    ReadSymbols();
    dwarf_frames_.emplace(dwarf, &symbols_, bias_ - dwarf_bias_);
  }

  void ReadSymbols() {
    // Functions of hand-written assembly often have no size: they end with their section, or where the next one starts.
    struct Unsized {
      std::uint64_t start;
      std::uint64_t section_end;
      const char* name;
    };
    std::vector<Unsized> unsized;
    std::vector<std::uint64_t> starts;
    const int count = dwfl_module_getsymtab(module_);
    for (int i = 1; i < count; ++i) {
      GElf_Sym symbol;
      GElf_Addr address = 0;
      GElf_Word section = 0;
      Elf* elf = nullptr;
      const char* name = dwfl_module_getsym_info(module_, i, &symbol, &address, &section, &elf, nullptr);
      const unsigned type = GELF_ST_TYPE(symbol.st_info);
      if (name == nullptr || *name == '\0' || section == SHN_UNDEF) continue;
      if (type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) continue;
      const std::uint64_t start = address - bias_;
      starts.push_back(start);
      GElf_Shdr header;
      if (symbol.st_size != 0) {
        symbols_.Add(start, start + symbol.st_size, name);
      } else if (gelf_getshdr(elf_getscn(elf, section), &header) != nullptr && (header.sh_flags & SHF_EXECINSTR) != 0) {
        unsized.push_back({start, start - symbol.st_value + header.sh_addr + header.sh_size, name});
      }
    }
    std::sort(starts.begin(), starts.end());
    for (const Unsized& symbol : unsized) {
      const auto next = std::upper_bound(starts.begin(), starts.end(), symbol.start);
      const std::uint64_t end = next == starts.end() ? symbol.section_end : std::min(*next, symbol.section_end);
      symbols_.Add(symbol.start, end, symbol.name);
    }
    symbols_.Sort();
  }

  std::vector<Frame> Look(std::uint64_t address) {
    ReadTables();
    std::vector<Frame> frames = dwarf_frames_->Find(address + bias_ - dwarf_bias_);
    if (!frames.empty() && !frames.back().name.empty()) return frames;
    const char* const* symbol = symbols_.Find(address);
    if (symbol == nullptr) return {};
    // There may be a line without a function around it, as in assembly.
    if (frames.empty()) frames.emplace_back();
    frames.back().name = DisplayName(*symbol);
    frames.back().system_name = *symbol;
    return frames;
  }

  Dwfl_Callbacks callbacks_{};
  std::string path_;
  std::vector<std::string> debug_directories_;
  Dwfl* dwfl_ = nullptr;
  Dwfl_Module* module_ = nullptr;
  Elf* elf_ = nullptr;
  // libdwfl's addresses minus those of the file, and minus those of its debug file.
  GElf_Addr bias_ = 0;
  Dwarf_Addr dwarf_bias_ = 0;
  std::string build_id_;
  std::vector<GElf_Phdr> executable_segments_;

  bool has_tables_ = false;
  RangeMap<const char*> symbols_;
  std::optional<DwarfFrames> dwarf_frames_;
  std::unordered_map<std::uint64_t, std::vector<Frame>> frames_;
};

ElfSymbols::ElfSymbols(std::unique_ptr<File> file) : file_(std::move(file)) {}
ElfSymbols::~ElfSymbols() = default;

std::unique_ptr<ElfSymbols> ElfSymbols::Open(int fd, const std::string& path,
                                             const std::vector<std::string>& debug_directories) {
  auto file = std::make_unique<File>();
  if (!file->Open(fd, path, debug_directories)) return nullptr;
  return std::unique_ptr<ElfSymbols>(new ElfSymbols(std::move(file)));
}

const std::string& ElfSymbols::build_id() const { return file_->build_id(); }
std::optional<std::uint64_t> ElfSymbols::AddressOfOffset(std::uint64_t offset) const {
  return file_->AddressOfOffset(offset);
}
const std::vector<Frame>& ElfSymbols::Find(std::uint64_t address) { return file_->Find(address); }

}  // namespace tarn::tool
