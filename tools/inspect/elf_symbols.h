// SPDX-License-Identifier: Apache-2.0
//
// One ELF file with its debug information, wherever that is: which function, file and line an address is in, and what was
// inlined there.
//
// Called by the symbolizer; calls elfutils (libdwfl finds separate debug files by build-id and .gnu_debuglink, libdw reads
// DWARF). The units of DWARF are found by their own ranges and not by .debug_aranges, which clang does not write.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tarn::tool {

struct Frame {
  std::string name;             // for people
  std::string system_name;      // as the linker has it, where there is such a name
  std::string file;             // of the line; empty when not known
  std::int64_t start_line = 0;  // of the function; 0 when not known, or when it is in another file
  std::int64_t line = 0;
};

class ElfSymbols {
 public:
  // Takes over `fd`. `path` is where .gnu_debuglink is looked for; `debug_directories` stand beside /usr/lib/debug.
  // Null when the file is no ELF file of a program or library.
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
