// SPDX-License-Identifier: Apache-2.0
//
// The allocators that are compared: where they are, and whether a process used one.
#pragma once

#include <string>
#include <vector>

#include "tools/tarn/compare/runner.h"

namespace tarn::tool {

// glibc's malloc is preloaded like the others, as libc.so.6 itself. For most programs that changes nothing, but some
// bring another malloc along: Debian's redis-server is linked with libjemalloc.
struct Allocator {
  std::string name;
  std::string path;                      // the preloaded library; libc.so.6 for glibc
  std::string package;                   // Debian's, with its version; may be empty
  std::vector<std::string> environment;  // settings of this row alone, as NAME=VALUE
};

// From --against: names that Debian has (and glibc, tarn), or name=path. The path may be such a name, too, and settings
// may follow it: "slow=tarn:TARN_MODE=thread". tarn is always among them, from `tarn_path` or from the directory of the
// tool. Throws UsageError for what is wrong. A peer that is not installed is such an error, unless `missing` is given,
// which then gets a line for each.
std::vector<Allocator> FindAllocators(const std::string& against, const std::string& tarn_path,
                                      std::vector<std::string>* missing);

// Why this run did not use the allocator as far as can be seen, or empty if it is proven that it did (proof.h).
std::string WhyNotProven(const Allocator& allocator, const Launch& launch, const Outcome& outcome);

}  // namespace tarn::tool
