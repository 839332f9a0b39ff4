// SPDX-License-Identifier: Apache-2.0
//
// Suggests the word that was probably meant by a misspelt one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tarn::tool {

// The name that was probably meant, empty where none is near.
std::string_view Nearest(std::string_view name, const std::vector<std::string_view>& names);

// "; did you mean X?", or nothing.
std::string Suggestion(std::string_view name, const std::vector<std::string_view>& names);

}  // namespace tarn::tool
