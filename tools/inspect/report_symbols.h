// SPDX-License-Identifier: Apache-2.0
//
// Adds functions, files and lines to the library's reports of misuse (allocator/misuse/report.h), text or JSON.
//
// A frame names the file that its code lies in, and the address in that file's own numbers. So a report can be
// symbolized on any machine that has the same files.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tools/inspect/elf_symbols.h"

namespace tarn::tool {

class ReportSymbols {
 public:
  // The text with names in its frames. All other lines stay as they are.
  std::string Symbolize(std::string_view text);

  // Notes for the user, about files that cannot be read. One sentence each, each once.
  std::vector<std::string> TakeNotes();

 private:
  std::string SymbolizeLine(std::string_view line);
  std::string SymbolizeJson(std::string_view line);
  // Empty: nothing is known.
  std::vector<Frame> FramesAt(const std::string& module, std::uint64_t address);

  std::map<std::string, std::unique_ptr<ElfSymbols>> files_;  // null: cannot be read
  std::vector<std::string> notes_;
};

}  // namespace tarn::tool
