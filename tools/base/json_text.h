// SPDX-License-Identifier: Apache-2.0
//
// A JSON document as text, as all verbs and pages write it.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace tarn::tool {

enum class JsonLayout { kIndented, kOneLine };

// With a line end. Bytes that are not UTF-8, as names of processes and files may hold, are replaced.
std::string JsonText(const nlohmann::json& document, JsonLayout layout = JsonLayout::kIndented);

}  // namespace tarn::tool
