// SPDX-License-Identifier: Apache-2.0
//
// The table of all verbs, in the order in which `tarn --help` lists them.
#pragma once

#include <string_view>
#include <vector>

#include "tools/tarn/verb.h"

namespace tarn::tool {

const std::vector<const Verb*>& Verbs();

// Null where there is none of this name.
const Verb* FindVerb(std::string_view name);

}  // namespace tarn::tool
