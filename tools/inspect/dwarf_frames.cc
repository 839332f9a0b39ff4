// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/dwarf_frames.h"

#include <dwarf.h>

#include <cstddef>
#include <filesystem>
#include <string_view>

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

bool IsScope(int tag) {
  return tag == DW_TAG_namespace || tag == DW_TAG_class_type || tag == DW_TAG_structure_type ||
         tag == DW_TAG_union_type || tag == DW_TAG_subprogram;
}

std::string ScopeName(Dwarf_Die* die, int tag) {
  const char* name = Text(die, DW_AT_name);
  if (name != nullptr) return name;
  return tag == DW_TAG_namespace ? "(anonymous namespace)" : kUnnamedClass;
}

// Appends what was inlined into `die` at the address.
void FindInlined(Dwarf_Die parent, Dwarf_Addr address, std::vector<Dwarf_Die>* chain, int depth) {
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

}  // namespace

std::vector<Frame> DwarfFrames::Find(Dwarf_Addr address) {
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

DwarfFrames::Unit* DwarfFrames::UnitAt(Dwarf_Addr address) {
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

DwarfFrames::Unit& DwarfFrames::UnitOf(const Dwarf_Die& head) {
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

void DwarfFrames::ReadUnits() {
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

std::vector<Dwarf_Die> DwarfFrames::FunctionsAt(Unit* unit, Dwarf_Addr address) {
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

void DwarfFrames::ReadFunctions(Unit* unit, Dwarf_Die* parent, int depth) {
  if (depth > kMaxDepth) return;
  ForEachChild(parent, [&](Dwarf_Die* die) {
    const int tag = dwarf_tag(die);
    if (tag == DW_TAG_subprogram) AddFunction(unit, die);
    if (tag == DW_TAG_namespace || tag == DW_TAG_module) ReadFunctions(unit, die, depth + 1);
    return true;
  });
}

void DwarfFrames::AddFunction(Unit* unit, Dwarf_Die* die) {
  ForEachRange(die, [&](Dwarf_Addr start, Dwarf_Addr end) { unit->functions.Add(start, end, *die); });
}

void DwarfFrames::ReadScopes(Unit* unit) {
  unit->has_scopes = true;
  unit->functions = {};
  WalkScopes(unit, &unit->whole, 0);
  unit->functions.Sort();
}

Dwarf_Off DwarfFrames::WalkScopes(Unit* unit, Dwarf_Die* parent, int depth) {
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

const DwarfFrames::Function& DwarfFrames::FunctionOf(Dwarf_Die* die, Unit* unit) {
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

const char* DwarfFrames::SymbolAt(Dwarf_Die* die) const {
  Dwarf_Addr start = 0;
  if (dwarf_tag(die) != DW_TAG_subprogram || dwarf_entrypc(die, &start) != 0) return nullptr;
  const char* const* symbol = symbols_->Find(start - symbol_bias_);
  return symbol != nullptr && std::string_view(*symbol).starts_with("_Z") ? *symbol : nullptr;
}

std::string DwarfFrames::ScopedName(Dwarf_Die die, const char* name) {
  // The declaration is in its class, the definition is not.
  Dwarf_Attribute attribute;
  Dwarf_Die target;
  if (dwarf_attr(&die, DW_AT_specification, &attribute) != nullptr && dwarf_formref_die(&attribute, &target) != nullptr)
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

std::string DwarfFrames::SourceFile(Dwarf_Die* die, unsigned name, Unit* unit) {
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

std::string DwarfFrames::Path(const char* name, Unit* unit) {
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

}  // namespace tarn::tool
