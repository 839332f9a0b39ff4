// SPDX-License-Identifier: Apache-2.0
//
// Programs and libraries as files: where they are, and whether a preload can reach them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tarn::tool {

// The facts of an ELF file that matter for preloading.
struct ElfFacts {
  bool is_elf = false;
  bool has_interpreter = false;  // the dynamic loader starts it, so LD_PRELOAD is read
  bool defines_malloc = false;   // exports a malloc of its own
  std::string build_id;          // hexadecimal; empty where there is none
  std::uint64_t address = 0;     // the lowest of its segments, as in the file
  // Where the loader writes the addresses of malloc, calloc, realloc and free for calls from this file: slots of the
  // global offset table, as addresses in the file.
  std::vector<std::uint64_t> malloc_slots;
  // Addresses of stubs of this file that stand for these functions where a program takes their address. They jump
  // through a slot, and say nothing of what is behind it.
  std::vector<std::uint64_t> malloc_stubs;
};
ElfFacts ReadElf(const std::string& path);

// Where execvp would find the program; throws ToolError with exit code 127 or 126 where it would not.
std::string FindProgram(const std::string& name);

// Why the loader would not preload a library into this program (static, setuid, another machine's), or empty. Follows
// a script to its interpreter.
std::string WhyNoPreload(const std::string& program);

// libtarn.so as it belongs to this tool: ../lib beside it, in the build as after an install. Throws ToolError.
std::string FindTarn();

// The value of LD_PRELOAD with `library` before what is there already.
std::string PreloadWith(const std::string& library, const char* existing);

// argv or environment as exec wants it; the strings must outlive it.
std::vector<char*> Pointers(const std::vector<std::string>& strings);

}  // namespace tarn::tool
