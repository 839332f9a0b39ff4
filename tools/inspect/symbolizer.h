// SPDX-License-Identifier: Apache-2.0
//
// Gives names, files and lines to the locations of a profile. `go tool pprof` has no means to find those of C and C++,
// so the file must carry them.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tools/inspect/elf_symbols.h"
#include "tools/inspect/process_maps.h"
#include "tools/inspect/profile/profile.h"

namespace tarn::tool {

// The end of a mapping's name where the file is gone from its place, as in /proc/PID/maps.
inline constexpr std::string_view kDeletedSuffix = " (deleted)";

// Appends the executable mappings of a process to a profile, so that Symbolizer and pprof know what is where.
void AddMappings(const std::vector<ProcessMapping>& mappings, Profile* profile);

// The index of the mapping that holds an address, or Profile::kNone. Mappings are sorted, as AddMappings leaves them.
std::uint32_t FindMapping(const Profile& profile, std::uint64_t address);

// Keeps what it read of the files, so that a second profile of the same process takes little time.
class Symbolizer {
 public:
  // Files are looked up as the process sees them (it may live in a container); without a process, pid 0, as we do.
  explicit Symbolizer(pid_t pid, std::vector<std::string> debug_directories = {});

  // Fills in the lines of all locations that have none, and the mappings' flags. Where nothing is known, the function
  // has the name of the file: "[libfoo.so]", or "[anon]" for code that a program made at run time.
  void Symbolize(Profile* profile);

  // Notes for the user: files that are missing or of another build. One sentence each, each once.
  std::vector<std::string> TakeNotes();

 private:
  // The file of a mapping; null when none is available. OpenFile: the file called `name`, with this build-id if any.
  ElfSymbols* SymbolsOf(const Profile& profile, const Profile::Mapping& mapping);
  std::unique_ptr<ElfSymbols> OpenFile(const std::string& name, const Profile::Mapping& mapping,
                                       const std::string& build_id);

  pid_t pid_;
  std::vector<std::string> debug_directories_;
  std::map<std::string, std::unique_ptr<ElfSymbols>> files_;  // by name and build-id; null: looked for in vain
  std::vector<std::string> notes_;
};

}  // namespace tarn::tool
