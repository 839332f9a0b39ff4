// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/symbolizer.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <tuple>
#include <utility>

#include "tools/inspect/symbol_names.h"

namespace tarn::tool {

namespace {

// The name of code that has none: after the file that it is in.
std::string UnknownName(const std::string& file) {
  if (file.empty() || file.starts_with("//anon")) return "[anon]";
  if (file[0] == '[') return file;
  return "[" + BaseName(file) + "]";
}

// The kernel's own little library, which is the same in every process and no file: written to one in memory.
int OpenVdso() {
  const std::uintptr_t base = getauxval(AT_SYSINFO_EHDR);
  if (base == 0) return -1;
  const auto* header = reinterpret_cast<const Elf64_Ehdr*>(base);
  // The sections' headers are its last part.
  const std::size_t bytes = header->e_shoff + std::size_t{header->e_shentsize} * header->e_shnum;
  const int fd = memfd_create("vdso", MFD_CLOEXEC);
  if (fd >= 0 && write(fd, header, bytes) != static_cast<ssize_t>(bytes)) {
    close(fd);
    return -1;
  }
  return fd;
}

}  // namespace

void AddMappings(const std::vector<ProcessMapping>& mappings, Profile* profile) {
  for (const ProcessMapping& source : mappings) {
    Profile::Mapping mapping;
    mapping.start = source.start;
    mapping.limit = source.limit;
    mapping.offset = source.offset;
    mapping.file = profile->strings.Intern(source.file + std::string(source.is_deleted ? kDeletedSuffix : ""));
    mapping.build_id = profile->strings.Intern(source.build_id);
    profile->mappings.push_back(mapping);
  }
}

std::uint32_t FindMapping(const Profile& profile, std::uint64_t address) {
  auto after =
      std::upper_bound(profile.mappings.begin(), profile.mappings.end(), address,
                       [](std::uint64_t wanted, const Profile::Mapping& mapping) { return wanted < mapping.start; });
  if (after == profile.mappings.begin() || address >= (after - 1)->limit) return Profile::kNone;
  return static_cast<std::uint32_t>(after - 1 - profile.mappings.begin());
}

Symbolizer::Symbolizer(pid_t pid, std::vector<std::string> debug_directories)
    : pid_(pid), debug_directories_(std::move(debug_directories)) {
  // A container brings the debug files of its programs itself, if there are any.
  if (pid_ != 0) debug_directories_.push_back("/proc/" + std::to_string(pid_) + "/root/usr/lib/debug");
}

void Symbolizer::Symbolize(Profile* profile) {
  std::map<std::tuple<StringId, StringId, StringId, std::int64_t>, std::uint32_t> functions;
  auto add_function = [&](const Profile::Function& function) {
    const auto [found, is_new] =
        functions.try_emplace({function.name, function.system_name, function.file, function.start_line},
                              static_cast<std::uint32_t>(profile->functions.size()));
    if (is_new) profile->functions.push_back(function);
    return found->second;
  };

  std::vector<ElfSymbols*> files(profile->mappings.size());
  std::vector<bool> is_open(profile->mappings.size());
  for (Profile::Location& location : profile->locations) {
    if (!location.lines.empty()) continue;
    std::string unknown = UnknownName("");
    if (location.mapping != Profile::kNone) {
      const Profile::Mapping& mapping = profile->mappings[location.mapping];
      if (!is_open[location.mapping]) {
        is_open[location.mapping] = true;
        files[location.mapping] = SymbolsOf(*profile, mapping);
      }
      ElfSymbols* symbols = files[location.mapping];
      const auto address = symbols == nullptr
                               ? std::nullopt
                               : symbols->AddressOfOffset(location.address - mapping.start + mapping.offset);
      if (address) {
        for (const Frame& frame : symbols->Find(*address)) {
          StringTable& strings = profile->strings;
          const Profile::Function function{strings.Intern(frame.name), strings.Intern(frame.system_name),
                                           strings.Intern(frame.file), frame.start_line};
          location.lines.push_back({add_function(function), frame.line});
        }
      }
      unknown = UnknownName(profile->Text(mapping.file));
    }
    if (location.lines.empty()) {
      const StringId name = profile->strings.Intern(unknown);
      location.lines.push_back({add_function({name, name, 0, 0}), 0});
    }
  }
  SetMappingFlags(profile);
}

std::vector<std::string> Symbolizer::TakeNotes() { return std::exchange(notes_, {}); }

ElfSymbols* Symbolizer::SymbolsOf(const Profile& profile, const Profile::Mapping& mapping) {
  const std::string& name = profile.Text(mapping.file);
  const std::string& build_id = profile.Text(mapping.build_id);
  if (name != "[vdso]" && (name.empty() || name[0] != '/' || name.starts_with("//anon"))) return nullptr;
  const auto [found, is_new] = files_.try_emplace(name + '\0' + build_id);
  if (is_new) found->second = OpenFile(name, mapping, build_id);
  return found->second.get();
}

std::unique_ptr<ElfSymbols> Symbolizer::OpenFile(const std::string& name, const Profile::Mapping& mapping,
                                                 const std::string& build_id) {
  if (name == "[vdso]") {
    const int fd = OpenVdso();
    return fd < 0 ? nullptr : ElfSymbols::Open(fd, name, debug_directories_);
  }
  const bool is_deleted = name.ends_with(kDeletedSuffix);
  const std::string path = is_deleted ? name.substr(0, name.size() - kDeletedSuffix.size()) : name;

  // The mapped file itself, even if it has lost its name, is behind map_files, for root only; the program is behind
  // exe.
  std::vector<std::string> candidates;
  if (pid_ != 0) {
    const std::string process = "/proc/" + std::to_string(pid_);
    char range[48];
    std::snprintf(range, sizeof(range), "/map_files/%lx-%lx", static_cast<unsigned long>(mapping.start),
                  static_cast<unsigned long>(mapping.limit));
    candidates.push_back(process + range);
    char target[4096];
    const ssize_t length = readlink((process + "/exe").c_str(), target, sizeof(target));
    if (length > 0 && std::string_view(target, static_cast<std::size_t>(length)) == name)
      candidates.push_back(process + "/exe");
    // Another file in the place of one that is gone is known by the build-id.
    if (!is_deleted || !build_id.empty()) candidates.push_back(process + "/root" + path);
  }
  if (!is_deleted || !build_id.empty()) candidates.push_back(path);

  bool is_other_build = false;
  for (const std::string& candidate : candidates) {
    const int fd = open(candidate.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    struct stat status;
    // A profile may name any file; reading a device or a pipe would have effects.
    if (fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) {
      close(fd);
      continue;
    }
    std::unique_ptr<ElfSymbols> symbols = ElfSymbols::Open(fd, path, debug_directories_);
    if (symbols == nullptr) continue;
    if (build_id.empty() || symbols->build_id() == build_id) return symbols;
    is_other_build = true;
  }
  notes_.push_back(is_other_build
                       ? "no names for " + path + ": the file that is there now is another build"
                       : "no names for " + path + ": the file cannot be " + (is_deleted ? "found any more" : "opened"));
  return nullptr;
}

}  // namespace tarn::tool
