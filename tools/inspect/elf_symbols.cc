// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/elf_symbols.h"

#include <dwarf.h>
#include <elfutils/libdw.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "tools/inspect/range_map.h"
#include "tools/inspect/symbol_names.h"

namespace tarn::tool {

namespace {

constexpr const char* kUnnamedClass = "{unnamed}";

// DWARF nests scopes a few dozen deep; a damaged file might do so for ever.
constexpr int kMaxDepth = 256;

Dwarf_Die Child(Dwarf_Die* die, bool* found) {
  Dwarf_Die child;
  *found = dwarf_child(die, &child) == 0;
  return child;
}

// Calls `visit` for each child of `die`, until one returns false.
template <typename Visit>
void ForEachChild(Dwarf_Die* die, Visit visit) {
  bool found = false;
  for (Dwarf_Die child = Child(die, &found); found; found = dwarf_siblingof(&child, &child) == 0)
    if (!visit(&child)) return;
}

// Calls `add(start, end)` for each range of addresses of a unit or function.
template <typename Add>
void ForEachRange(Dwarf_Die* die, Add add) {
  Dwarf_Addr base = 0, start = 0, end = 0;
  for (ptrdiff_t next = 0; (next = dwarf_ranges(die, next, &base, &start, &end)) > 0;) add(start, end);
}

const char* Text(Dwarf_Die* die, unsigned name) {
  Dwarf_Attribute attribute;
  return dwarf_formstring(dwarf_attr_integrate(die, name, &attribute));
}

std::int64_t Number(Dwarf_Die* die, unsigned name) {
  Dwarf_Attribute attribute;
  Dwarf_Word value = 0;
  return dwarf_formudata(dwarf_attr_integrate(die, name, &attribute), &value) == 0 ? static_cast<std::int64_t>(value)
                                                                                   : 0;
}

// Languages whose functions have no scopes.
bool IsPlain(int language) {
  switch (language) {
    case DW_LANG_C89:
    case DW_LANG_C:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case DW_LANG_Mips_Assembler:
      return true;
    default:
      return false;
  }
}

}  // namespace

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
  struct Function {
    std::string name;
    std::string system_name;
    std::string file;
    std::int64_t line = 0;
  };
  struct Scope {
    Dwarf_Off begin;  // the offsets of the scope's own entry and of the last one in it
    Dwarf_Off last;
    std::string name;
  };
  // A unit of compilation. What is in it is read when an address in it is asked for first.
  struct Unit {
    Dwarf_Die head;   // has the table of lines
    Dwarf_Die whole;  // has the functions: the same, unless these are in a file of their own (-gsplit-dwarf)
    bool has_functions = false;
    bool has_scopes = false;
    RangeMap<Dwarf_Die> functions;
    std::vector<Scope> scopes;  // outer ones before inner ones
  };

  // Called by libdwfl for a file without debug information: the descriptor of the file that has it, or -1. libdwfl's own
  // search would load libdebuginfod with half of the network's libraries each time, so it is left to those who have
  // told by DEBUGINFOD_URLS where to ask.
  static int FindDebugFile(Dwfl_Module* module, void** user_data, const char* name, Dwarf_Addr base, const char* file,
                           const char* link, GElf_Word crc, char** found_name) {
    auto* self = static_cast<File*>(*user_data);
    const int fd = self->OpenDebugFile(link, crc);
    if (fd >= 0 || std::getenv("DEBUGINFOD_URLS") == nullptr) return fd;
    return dwfl_standard_find_debuginfo(module, user_data, name, base, file, link, crc, found_name);
  }

  // By build-id, and by the name that .gnu_debuglink gives, in the places where gdb looks, too.
  int OpenDebugFile(const char* link, GElf_Word crc) const {
    if (build_id_.size() > 2) {
      for (const std::string& directory : debug_directories_) {
        const std::string path =
            directory + "/.build-id/" + build_id_.substr(0, 2) + "/" + build_id_.substr(2) + ".debug";
        if (const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC); fd >= 0) return fd;
      }
    }
    if (link == nullptr || std::string_view(link).find('/') != std::string_view::npos) return -1;
    const std::string directory = path_.substr(0, path_.rfind('/') + 1);
    std::vector<std::string> places = {directory, directory + ".debug/"};
    for (const std::string& debug_directory : debug_directories_) places.push_back(debug_directory + directory);
    for (const std::string& place : places) {
      const int fd = open((place + link).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
      if (fd < 0) continue;
      if (HasCrc(fd, crc)) return fd;
      close(fd);
    }
    return -1;
  }

  // Whether it is the very file that was split off, and not one of another build.
  static bool HasCrc(int fd, GElf_Word crc) {
    unsigned char chunk[std::size_t{64} << 10];
    uLong sum = crc32(0, nullptr, 0);
    ssize_t count = 0;
    while ((count = read(fd, chunk, sizeof(chunk))) > 0) sum = crc32(sum, chunk, static_cast<uInt>(count));
    return count == 0 && sum == crc && lseek(fd, 0, SEEK_SET) == 0;
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
    constexpr std::string_view kDigits = "0123456789abcdef";
    for (int i = 0; i < size; ++i) {
      build_id_ += kDigits[bits[i] >> 4];
      build_id_ += kDigits[bits[i] & 15];
    }
  }

  // Debug files are looked for when the first name is asked for: most files of a process have none in any stack.
  void ReadTables() {
    if (has_tables_) return;
    has_tables_ = true;
    dwarf_ = dwfl_module_getdwarf(module_, &dwarf_bias_);
    ReadSymbols();
  }

  // The unit that an address is in, or null. By .debug_aranges where they tell, for that is little to read; clang does not
  // write them, and then each unit is asked for its ranges.
  Unit* UnitAt(Dwarf_Addr address) {
    if (dwarf_ == nullptr) return nullptr;
    Dwarf_Aranges* aranges = nullptr;
    std::size_t count = 0;
    Dwarf_Off offset = 0;
    if (dwarf_getaranges(dwarf_, &aranges, &count) == 0) {
      Dwarf_Arange* range = dwarf_getarange_addr(aranges, address);
      Dwarf_Die head;
      if (range != nullptr && dwarf_getarangeinfo(range, nullptr, nullptr, &offset) == 0 &&
          dwarf_offdie(dwarf_, offset, &head) != nullptr)
        return &UnitOf(head);
    }
    ReadUnits();
    const Dwarf_Off* found = unit_ranges_.Find(address);
    Dwarf_Die head;
    if (found == nullptr || dwarf_offdie(dwarf_, *found, &head) == nullptr) return nullptr;
    return &UnitOf(head);
  }

  // The unit of this first entry.
  Unit& UnitOf(const Dwarf_Die& head) {
    const auto [found, is_new] = units_.try_emplace(head.addr);
    Unit& unit = found->second;
    if (is_new) {
      unit.head = unit.whole = head;
      Dwarf_Die split;
      std::uint8_t type = 0;
      if (dwarf_cu_info(head.cu, nullptr, &type, nullptr, &split, nullptr, nullptr, nullptr) == 0 &&
          type == DW_UT_skeleton && split.addr != nullptr)
        unit.whole = split;
    }
    return unit;
  }

  void ReadUnits() {
    if (has_units_) return;
    has_units_ = true;
    Dwarf_CU* cu = nullptr;
    Dwarf_Die head, split;
    std::uint8_t type = 0;
    // Units of types, and parts that others import, have no ranges.
    while (dwarf_get_units(dwarf_, cu, &cu, nullptr, &type, &head, &split) == 0) {
      Dwarf_Die& whole = type == DW_UT_skeleton && split.addr != nullptr ? split : head;
      ForEachRange(&whole,
                   [&](Dwarf_Addr start, Dwarf_Addr end) { unit_ranges_.Add(start, end, dwarf_dieoffset(&head)); });
    }
    unit_ranges_.Sort();
  }

  void ReadSymbols() {
    // Functions of hand-written assembly often have no size: such a one ends with its section, or where the next starts.
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
    std::vector<Frame> frames = LookInDwarf(address + bias_ - dwarf_bias_);
    if (!frames.empty() && !frames.back().name.empty()) return frames;
    const char* const* symbol = symbols_.Find(address);
    if (symbol == nullptr) return {};
    // There may be a line without a function around it, as in assembly.
    if (frames.empty()) frames.emplace_back();
    frames.back().name = DisplayName(*symbol);
    frames.back().system_name = *symbol;
    return frames;
  }

  std::vector<Frame> LookInDwarf(Dwarf_Addr address) {
    Unit* found = UnitAt(address);
    if (found == nullptr) return {};
    Unit& unit = *found;
    // The function, and in it what was inlined, the outermost first.
    std::vector<Dwarf_Die> chain = FunctionsAt(&unit, address);
    std::vector<Frame> frames;
    std::string file;
    std::int64_t line = 0;
    if (Dwarf_Line* row = dwarf_getsrc_die(&unit.head, address); row != nullptr) {
      int number = 0;
      if (dwarf_lineno(row, &number) == 0) line = number;
      file = Path(dwarf_linesrc(row, nullptr, nullptr), &unit);
    }
    while (!chain.empty()) {
      Dwarf_Die& die = chain.back();
      const Function& function = FunctionOf(&die, &unit);
      frames.push_back({function.name, function.system_name, file, function.file == file ? function.line : 0, line});
      // The next one is where this one was called.
      file = SourceFile(&die, DW_AT_call_file, &unit);
      line = Number(&die, DW_AT_call_line);
      chain.pop_back();
    }
    if (frames.empty() && line != 0) frames.push_back({"", "", file, 0, line});
    return frames;
  }

  std::vector<Dwarf_Die> FunctionsAt(Unit* unit, Dwarf_Addr address) {
    if (!unit->has_functions) {
      unit->has_functions = true;
      ReadFunctions(unit, &unit->whole, 0);
      unit->functions.Sort();
    }
    const Dwarf_Die* function = unit->functions.Find(address);
    if (function == nullptr && !unit->has_scopes) {
      // One within another function or a class, which the quick pass leaves out.
      ReadScopes(unit);
      function = unit->functions.Find(address);
    }
    std::vector<Dwarf_Die> chain;
    if (function == nullptr) return chain;
    chain.push_back(*function);
    FindInlined(chain.back(), address, &chain, 0);
    return chain;
  }

  // Functions of namespaces, which are nearly all that have code.
  void ReadFunctions(Unit* unit, Dwarf_Die* parent, int depth) {
    if (depth > kMaxDepth) return;
    ForEachChild(parent, [&](Dwarf_Die* die) {
      const int tag = dwarf_tag(die);
      if (tag == DW_TAG_subprogram) AddFunction(unit, die);
      if (tag == DW_TAG_namespace || tag == DW_TAG_module) ReadFunctions(unit, die, depth + 1);
      return true;
    });
  }

  static void AddFunction(Unit* unit, Dwarf_Die* die) {
    ForEachRange(die, [&](Dwarf_Addr start, Dwarf_Addr end) { unit->functions.Add(start, end, *die); });
  }

  // Everything in the unit that may be around a function, and all functions. Slow in a large unit, and seldom needed.
  void ReadScopes(Unit* unit) {
    unit->has_scopes = true;
    unit->functions = {};
    WalkScopes(unit, &unit->whole, 0);
    unit->functions.Sort();
  }

  // Returns the offset of the last entry in `parent`.
  Dwarf_Off WalkScopes(Unit* unit, Dwarf_Die* parent, int depth) {
    Dwarf_Off last = dwarf_dieoffset(parent);
    if (depth > kMaxDepth) return last;
    ForEachChild(parent, [&](Dwarf_Die* die) {
      last = dwarf_dieoffset(die);
      const int tag = dwarf_tag(die);
      if (tag == DW_TAG_subprogram) AddFunction(unit, die);
      if (dwarf_haschildren(die) != 1) return true;
      const std::size_t index = unit->scopes.size();
      const bool is_scope = IsScope(tag);
      if (is_scope) unit->scopes.push_back({last, last, ScopeName(die, tag)});
      last = WalkScopes(unit, die, depth + 1);
      if (is_scope) unit->scopes[index].last = last;
      return true;
    });
    return last;
  }

  static bool IsScope(int tag) {
    return tag == DW_TAG_namespace || tag == DW_TAG_class_type || tag == DW_TAG_structure_type ||
           tag == DW_TAG_union_type || tag == DW_TAG_subprogram;
  }

  static std::string ScopeName(Dwarf_Die* die, int tag) {
    const char* name = Text(die, DW_AT_name);
    if (name != nullptr) return name;
    return tag == DW_TAG_namespace ? "(anonymous namespace)" : kUnnamedClass;
  }

  // Appends what was inlined into `die` at the address.
  static void FindInlined(Dwarf_Die parent, Dwarf_Addr address, std::vector<Dwarf_Die>* chain, int depth) {
    if (depth > kMaxDepth) return;
    const std::size_t length = chain->size();
    ForEachChild(&parent, [&](Dwarf_Die* die) {
      const int tag = dwarf_tag(die);
      if (tag == DW_TAG_inlined_subroutine) {
        if (dwarf_haspc(die, address) != 1) return true;
        chain->push_back(*die);
        FindInlined(*die, address, chain, depth + 1);
      } else if (tag == DW_TAG_lexical_block || tag == DW_TAG_try_block || tag == DW_TAG_catch_block) {
        const bool has_ranges = dwarf_hasattr(die, DW_AT_low_pc) == 1 || dwarf_hasattr(die, DW_AT_ranges) == 1;
        if (!has_ranges || dwarf_haspc(die, address) == 1) FindInlined(*die, address, chain, depth + 1);
      }
      return chain->size() == length;
    });
  }

  // The name and place of a function, of which there may be many copies, inlined and not.
  const Function& FunctionOf(Dwarf_Die* die, Unit* unit) {
    Dwarf_Die origin = *die;
    Dwarf_Attribute attribute;
    Dwarf_Die target;
    if (dwarf_attr(die, DW_AT_abstract_origin, &attribute) != nullptr &&
        dwarf_formref_die(&attribute, &target) != nullptr)
      origin = target;
    const auto [found, is_new] = functions_.try_emplace(origin.addr);
    if (!is_new) return found->second;
    Function& function = found->second;
    function.line = Number(&origin, DW_AT_decl_line);
    function.file = SourceFile(&origin, DW_AT_decl_file, unit);
    const char* linkage_name = Text(&origin, DW_AT_linkage_name);
    if (linkage_name == nullptr) linkage_name = Text(&origin, DW_AT_MIPS_linkage_name);
    // The compiler names a function for the linker in DWARF only when other files may use it; the table of symbols knows
    // the others, unless they were inlined everywhere.
    if (linkage_name == nullptr) linkage_name = SymbolAt(die);
    const char* plain_name = Text(&origin, DW_AT_name);
    if (linkage_name != nullptr) {
      function.system_name = linkage_name;
      function.name = DisplayName(linkage_name);
    } else if (plain_name != nullptr) {
      function.system_name = plain_name;
      function.name = ScopedName(origin, plain_name);
    }
    return function;
  }

  // The mangled symbol at the very start of a function that is not inlined; else null.
  const char* SymbolAt(Dwarf_Die* die) const {
    Dwarf_Addr start = 0;
    if (dwarf_tag(die) != DW_TAG_subprogram || dwarf_entrypc(die, &start) != 0) return nullptr;
    const char* const* symbol = symbols_.Find(start + dwarf_bias_ - bias_);
    return symbol != nullptr && std::string_view(*symbol).starts_with("_Z") ? *symbol : nullptr;
  }

  // The name with the namespaces and classes around it.
  std::string ScopedName(Dwarf_Die die, const char* name) {
    // The declaration is in its class, the definition is not.
    Dwarf_Attribute attribute;
    Dwarf_Die target;
    if (dwarf_attr(&die, DW_AT_specification, &attribute) != nullptr &&
        dwarf_formref_die(&attribute, &target) != nullptr)
      die = target;
    Dwarf_Die head;
    if (dwarf_diecu(&die, &head, nullptr, nullptr) == nullptr || IsPlain(dwarf_srclang(&head))) return name;
    Unit& unit = UnitOf(head);
    if (!unit.has_scopes) ReadScopes(&unit);
    const Dwarf_Off offset = dwarf_dieoffset(&die);
    std::string result;
    for (const Scope& scope : unit.scopes) {
      if (scope.begin >= offset) break;
      if (offset <= scope.last) result += scope.name + "::";
    }
    // A class without a name that can be called is a lambda.
    const std::string unnamed = std::string(kUnnamedClass) + "::";
    if (std::string_view(name) == "operator()" && result.ends_with(unnamed))
      result.replace(result.size() - unnamed.size(), unnamed.size(), "{lambda}::");
    return result + name;
  }

  std::string SourceFile(Dwarf_Die* die, unsigned name, Unit* unit) {
    Dwarf_Attribute attribute;
    Dwarf_Word index = 0;
    if (dwarf_formudata(dwarf_attr_integrate(die, name, &attribute), &index) != 0) return "";
    // The numbers are those of the unit that the attribute stands in.
    Dwarf_Die head;
    Dwarf_Files* files = nullptr;
    std::size_t count = 0;
    if (dwarf_cu_die(attribute.cu, &head, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr) == nullptr) return "";
    if (dwarf_getsrcfiles(&head, &files, &count) != 0 || index >= count) return "";
    return Path(dwarf_filesrc(files, index, nullptr, nullptr), unit);
  }

  std::string Path(const char* name, Unit* unit) {
    if (name == nullptr) return "";
    auto [found, is_new] = paths_.try_emplace(name);
    if (!is_new) return found->second;
    std::filesystem::path path(name);
    if (path.is_relative()) {
      const char* directory = Text(&unit->head, DW_AT_comp_dir);
      if (directory != nullptr) path = std::filesystem::path(directory) / path;
    }
    return found->second = path.lexically_normal().string();
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
  Dwarf* dwarf_ = nullptr;
  std::unordered_map<const void*, Unit> units_;  // by the address of the first entry
  bool has_units_ = false;
  RangeMap<Dwarf_Off> unit_ranges_;  // to the offset of the first entry
  RangeMap<const char*> symbols_;

  std::unordered_map<const void*, Function> functions_;
  std::unordered_map<const char*, std::string> paths_;
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
