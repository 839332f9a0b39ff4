// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the reader of /proc/PID/maps, the search for a build-id in ELF notes, and the cut of a function's signature.
// A mapping that was read is written as a line and read again, and is the same.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzzer.h"
#include "tools/inspect/process_maps.h"
#include "tools/inspect/symbol_names.h"

namespace {

using tarn::tool::ProcessMapping;

std::string Line(const ProcessMapping& mapping) {
  char head[160];
  std::snprintf(head, sizeof head, "%lx-%lx %c%c%cp %lx 00:00 %lu ", mapping.start, mapping.limit,
                mapping.is_readable ? 'r' : '-', mapping.is_writable ? 'w' : '-', mapping.is_executable ? 'x' : '-',
                mapping.offset, mapping.inode);
  std::string name = mapping.file;
  for (std::size_t at = 0; (at = name.find('\n', at)) != std::string::npos;) name.replace(at, 1, "\\012");
  return head + name + (mapping.is_deleted ? " (deleted)" : "") + "\n";
}

void CheckSame(const ProcessMapping& a, const ProcessMapping& b) {
  FUZZ_REQUIRE(a.start == b.start && a.limit == b.limit && a.offset == b.offset && a.inode == b.inode);
  FUZZ_REQUIRE(a.is_readable == b.is_readable && a.is_writable == b.is_writable);
  FUZZ_REQUIRE(a.is_executable == b.is_executable && a.is_deleted == b.is_deleted && a.file == b.file);
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(tarn_test::AsText(data, size));
  for (const ProcessMapping& mapping : tarn::tool::ParseMaps(text)) {
    FUZZ_REQUIRE(!mapping.file.empty() || mapping.is_deleted);
    const std::vector<ProcessMapping> again = tarn::tool::ParseMaps(Line(mapping));
    FUZZ_REQUIRE(again.size() == 1);
    CheckSame(mapping, again.front());
  }
  FUZZ_REQUIRE(tarn::tool::FindBuildId(text).size() <= 2 * size);
  FUZZ_REQUIRE(tarn::tool::StripSignature(text).size() <= size);
  return 0;
}
