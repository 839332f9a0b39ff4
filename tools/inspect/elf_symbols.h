// SPDX-License-Identifier: Apache-2.0
//
// One ELF file with its debug information, wherever that is: the functions, files and lines of its addresses.
//
// By elfutils. Symbols are looked up in a table of our own: dwfl_module_addrsym goes through all of them at each call.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/inspect/dwarf_frames.h"

namespace tarn::tool {

class ElfSymbols {
 public:
  // Takes over `fd`. `path` is where .gnu_debuglink is looked for; `debug_directories` stand beside /usr/lib/debug.
  // Null when the file is not an ELF file of a program or library.
  static std::unique_ptr<ElfSymbols> Open(int fd, const std::string& path,
                                          const std::vector<std::string>& debug_directories);
  ~ElfSymbols();

  // Hexadecimal digits; empty when the file has none.
  const std::string& build_id() const;

  // The address, in the file's own numbers, of what is at this offset of the file and executable.
  std::optional<std::uint64_t> AddressOfOffset(std::uint64_t offset) const;

  // The functions at an address, the innermost inlined one first; empty when nothing is known. The answer is remembered
  // and stays valid.
  const std::vector<Frame>& Find(std::uint64_t address);

 private:
  class File;
  explicit ElfSymbols(std::unique_ptr<File> file);
  std::unique_ptr<File> file_;
};

}  // namespace tarn::tool
