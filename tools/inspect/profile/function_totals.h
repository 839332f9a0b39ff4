// SPDX-License-Identifier: Apache-2.0
//
// How much each function of a profile allocated: the table of `tarn top` and `tarn diff`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "tools/inspect/profile/profile.h"

namespace tarn::tool {

struct FunctionTotal {
  std::int64_t self = 0;          // allocated by the function itself
  std::int64_t with_callees = 0;  // and by what it called; once per stack, also where it is in there several times
  std::string place;              // "file:line" of the function, or of the part of the file; may be empty
};

// By the functions' names, as only these are the same in two builds of a program. The allocator's own frames, which the
// profile asks to hide, do not count: what they allocated belongs to their caller. Values are those of one sample type.
std::unordered_map<std::string, FunctionTotal> FunctionTotals(const Profile& profile, std::size_t sample_type);

// The sum of one sample type over all samples.
std::int64_t Total(const Profile& profile, std::size_t sample_type);

}  // namespace tarn::tool
