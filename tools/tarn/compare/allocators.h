// SPDX-License-Identifier: Apache-2.0
//
// The allocators that are compared: where they are, and whether a process used one.
#pragma once

#include <string>
#include <vector>

#include "tools/tarn/compare/runner.h"

namespace tarn::tool {

struct Allocator {
  std::string name;
  std::string path;       // of libc.so.6 for glibc
  std::string package;    // Debian's, with its version; may be empty
  bool preloaded = true;  // not so for glibc
};

// From --against: names that Debian has (and glibc, tarn), or name=path. tarn comes along in any case, from `tarn_path`
// or beside the tool. Throws UsageError for what is wrong; a peer that is not installed is one, too, unless `missing`
// is given, which then gets a line for each.
std::vector<Allocator> FindAllocators(const std::string& against, const std::string& tarn_path,
                                      std::vector<std::string>* missing);

// Why this run did not use the allocator as far as can be seen, or empty if it is proven that it did. It is proven by
// the loader's rules: the first of program, preloaded libraries and others that defines malloc is everybody's malloc.
std::string WhyNotProven(const Allocator& allocator, const Outcome& outcome);

}  // namespace tarn::tool
