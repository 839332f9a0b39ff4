// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/process_maps.h"

#include <elf.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string_view>
#include <utility>

#include "tools/base/error.h"
#include "tools/base/text.h"

namespace tarn::tool {

namespace {

// A line such as
//   7f0c4a628000-7f0c4a77d000 r-xp 00026000 fd:00 1234                       /usr/lib/x86_64-linux-gnu/libc.so.6
// The name is the rest of the line, spaces and all; the kernel writes a newline in it as \012.
bool ParseLine(std::string_view line, ProcessMapping* result) {
  auto number = [&](std::uint64_t* value, int base, char end) {
    const auto [next, error] = std::from_chars(line.data(), line.data() + line.size(), *value, base);
    if (error != std::errc() || next == line.data() + line.size() || *next != end) return false;
    line.remove_prefix(static_cast<std::size_t>(next - line.data()) + 1);
    return true;
  };
  auto skip = [&](std::size_t bytes) {
    if (line.size() < bytes) return false;
    line.remove_prefix(bytes);
    return true;
  };
  ProcessMapping& mapping = *result;
  std::uint64_t device = 0;
  if (!number(&mapping.start, 16, '-') || !number(&mapping.limit, 16, ' ') || line.size() < 5) return false;
  mapping.is_readable = line[0] == 'r';
  mapping.is_writable = line[1] == 'w';
  mapping.is_executable = line[2] == 'x';
  if (!skip(5) || !number(&mapping.offset, 16, ' ') || !number(&device, 16, ':') || !number(&device, 16, ' '))
    return false;
  if (const auto [next, error] = std::from_chars(line.data(), line.data() + line.size(), mapping.inode, 10);
      error == std::errc())
    line.remove_prefix(static_cast<std::size_t>(next - line.data()));
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  constexpr std::string_view kDeleted = " (deleted)";
  if (line.ends_with(kDeleted)) {
    mapping.is_deleted = true;
    line.remove_suffix(kDeleted.size());
  }
  mapping.file = line.empty() ? "[anon]" : std::string(line);
  for (std::size_t at = 0; (at = mapping.file.find("\\012", at)) != std::string::npos; ++at)
    mapping.file.replace(at, 4, "\n");
  return true;
}

// The build-id of the ELF file whose first page is mapped at `base`. The process may damage its own headers, so nothing
// in them is believed, and little is read by them.
std::string ReadBuildId(const ProcessMemory& memory, std::uint64_t base) {
  // Chosen: linkers write a dozen segments, and notes of some hundred bytes.
  constexpr std::size_t kMaxSegments = 128;
  constexpr std::uint64_t kMaxNotesBytes = std::uint64_t{64} << 10;
  Elf64_Ehdr header;
  if (!memory.Read(base, &header, sizeof(header)) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 ||
      header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_phentsize != sizeof(Elf64_Phdr) ||
      header.e_phnum > kMaxSegments)
    return "";
  std::vector<Elf64_Phdr> segments(header.e_phnum);
  if (!memory.Read(base + header.e_phoff, segments.data(), segments.size() * sizeof(Elf64_Phdr))) return "";
  // The notes' address is relative to where the file's first loaded segment would like to be.
  std::uint64_t first = 0;
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_LOAD) continue;
    first = segment.p_vaddr - segment.p_offset;
    break;
  }
  std::uint64_t left_bytes = kMaxNotesBytes;
  for (const Elf64_Phdr& segment : segments) {
    if (segment.p_type != PT_NOTE || segment.p_filesz > left_bytes) continue;
    left_bytes -= segment.p_filesz;
    std::string notes(segment.p_filesz, '\0');
    if (!memory.Read(base + (segment.p_vaddr - first), notes.data(), notes.size())) continue;
    if (std::string id = FindBuildId(notes); !id.empty()) return id;
  }
  return "";
}

}  // namespace

std::string FindBuildId(const std::string& notes) {
  std::size_t at = 0;
  // GNU's notes are aligned to 4 bytes, except property notes, which have an area of their own.
  auto align = [](std::size_t size) { return (size + 3) & ~std::size_t{3}; };
  while (at + sizeof(Elf64_Nhdr) <= notes.size()) {
    Elf64_Nhdr note;
    std::memcpy(&note, notes.data() + at, sizeof(note));
    const std::size_t name = at + sizeof(note);
    const std::size_t content = name + align(note.n_namesz);
    if (content > notes.size() || note.n_descsz > notes.size() - content) break;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(notes.data() + name, "GNU", 4) == 0) {
      return HexDigits({reinterpret_cast<const unsigned char*>(notes.data()) + content, note.n_descsz});
    }
    at = content + align(note.n_descsz);
  }
  return "";
}

std::vector<ProcessMapping> ParseMaps(const std::string& text) {
  std::vector<ProcessMapping> maps;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    ProcessMapping mapping;
    if (ParseLine(line, &mapping)) maps.push_back(std::move(mapping));
  }
  return maps;
}

bool IsOf32Bits(const std::vector<ProcessMapping>& maps) {
  constexpr std::uint64_t kEnd = std::uint64_t{1} << 32;
  return !maps.empty() && maps.back().limit <= kEnd;
}

std::vector<ProcessMapping> ReadMaps(pid_t pid) {
  const std::string path = "/proc/" + std::to_string(pid) + "/maps";
  errno = 0;
  std::ifstream file(path);
  constexpr std::size_t kMaxBytes = std::size_t{64} << 20;
  constexpr std::size_t kChunkBytes = std::size_t{64} << 10;
  std::string text;
  while (file && text.size() < kMaxBytes) {
    const std::size_t start = text.size();
    text.resize(start + kChunkBytes);
    file.read(text.data() + start, static_cast<std::streamsize>(kChunkBytes));
    text.resize(start + static_cast<std::size_t>(file.gcount()));
  }
  // The maps of a kernel thread or a zombie are empty.
  if (text.empty()) throw ToolError(path + " cannot be read: " + (errno != 0 ? std::strerror(errno) : "it is empty"));
  return ParseMaps(text);
}

std::vector<ProcessMapping> ReadCode(const ProcessMemory& memory, const std::vector<ProcessMapping>& maps) {
  std::vector<ProcessMapping> result;
  std::map<std::uint64_t, std::string> build_ids;  // by the address of the file's headers
  // A file's headers are in its mapping of offset 0, which is the last such before its executable part.
  const ProcessMapping* head = nullptr;
  for (const ProcessMapping& mapping : maps) {
    if (mapping.offset == 0) head = &mapping;
    if (!mapping.is_executable) continue;
    ProcessMapping& code = result.emplace_back(mapping);
    const bool is_vdso = mapping.file == "[vdso]";
    if (head == nullptr || head->inode != mapping.inode || head->file != mapping.file) continue;
    if (mapping.inode == 0 && !is_vdso) continue;
    // Chosen: many times the libraries of a large program.
    constexpr std::size_t kMaxFiles = 10'000;
    if (build_ids.size() >= kMaxFiles) continue;
    const auto [found, is_new] = build_ids.try_emplace(head->start);
    if (is_new) found->second = ReadBuildId(memory, head->start);
    code.build_id = found->second;
  }
  return result;
}

}  // namespace tarn::tool
