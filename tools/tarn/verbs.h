// The table of all verbs, in the order in which `tarn --help` lists them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tools/tarn/verb.h"

namespace tarn::tool {

const std::vector<const Verb*>& Verbs();

// Null where there is none of this name.
const Verb* FindVerb(std::string_view name);

// The name that was probably meant, empty where none is near.
std::string_view Nearest(std::string_view name, const std::vector<std::string_view>& names);

// "; did you mean X?", or nothing.
std::string Suggestion(std::string_view name, const std::vector<std::string_view>& names);

}  // namespace tarn::tool
