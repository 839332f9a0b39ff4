// SPDX-License-Identifier: Apache-2.0
//
// The functions at an address by DWARF: the one that has the code, and those that were inlined there.
//
// libdw reads DWARF, but the searches are our own. dwarf_getscopes passes over functions in a namespace, where gcc and
// clang put them. It and dwarf_getscopes_die walk a whole unit at each call, and as deep as a damaged file nests.
#pragma once

#include <elfutils/libdw.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/inspect/range_map.h"

namespace tarn::tool {

struct Frame {
  std::string name;             // for people
  std::string system_name;      // as the linker has it, where there is such a name
  std::string file;             // of the line; empty when not known
  std::int64_t start_line = 0;  // of the function; 0 when not known, or when it is in another file
  std::int64_t line = 0;
};

class DwarfFrames {
 public:
  // `dwarf` may be null: then nothing is known. `symbols` are the names that the linker has, and may be filled in
  // later. Their addresses are less by `symbol_bias` than those of DWARF.
  DwarfFrames(Dwarf* dwarf, const RangeMap<const char*>* symbols, Dwarf_Addr symbol_bias)
      : dwarf_(dwarf), symbols_(symbols), symbol_bias_(symbol_bias) {}

  // The innermost inlined function first. One without a name where only the line is known.
  std::vector<Frame> Find(Dwarf_Addr address);

 private:
  struct Function {
    std::string name;
    std::string system_name;
    std::string file;
    std::int64_t line = 0;
  };
  struct Scope {
    Dwarf_Off begin;  // the offsets of the entry of the scope, and of the last one in it
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

  // The unit that an address is in, or null. By .debug_aranges where there are some, for that is little to read. clang
  // does not write them; then each unit is asked for its ranges.
  Unit* UnitAt(Dwarf_Addr address);
  // The unit of this first entry.
  Unit& UnitOf(const Dwarf_Die& head);
  void ReadUnits();
  std::vector<Dwarf_Die> FunctionsAt(Unit* unit, Dwarf_Addr address);
  // Functions of namespaces, which are nearly all that have code.
  void ReadFunctions(Unit* unit, Dwarf_Die* parent, int depth);
  static void AddFunction(Unit* unit, Dwarf_Die* die);
  // Everything in the unit that may be around a function, and all functions. Slow in a large unit, and seldom needed.
  void ReadScopes(Unit* unit);
  // Returns the offset of the last entry in `parent`.
  Dwarf_Off WalkScopes(Unit* unit, Dwarf_Die* parent, int depth);
  // The name and place of a function, of which there may be many copies, inlined and not.
  const Function& FunctionOf(Dwarf_Die* die, Unit* unit);
  // The mangled symbol at the very start of a function that is not inlined; else null.
  const char* SymbolAt(Dwarf_Die* die) const;
  // The name with the namespaces and classes around it.
  std::string ScopedName(Dwarf_Die die, const char* name);
  std::string SourceFile(Dwarf_Die* die, unsigned name, Unit* unit);
  std::string Path(const char* name, Unit* unit);

  Dwarf* dwarf_;
  const RangeMap<const char*>* symbols_;
  Dwarf_Addr symbol_bias_;
  std::unordered_map<const void*, Unit> units_;  // by the address of the first entry
  bool has_units_ = false;
  RangeMap<Dwarf_Off> unit_ranges_;  // to the offset of the first entry
  std::unordered_map<const void*, Function> functions_;
  std::unordered_map<const char*, std::string> paths_;
};

}  // namespace tarn::tool
