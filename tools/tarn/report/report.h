// SPDX-License-Identifier: Apache-2.0
//
// The report: one HTML file that tells what a result document says. It works offline and asks for nothing from outside.
#pragma once

#include <string>

#include <nlohmann/json_fwd.hpp>

namespace tarn::tool {

// `document` is of the schema tarn-bench/1; std::runtime_error with a text for the user where it is not.
std::string RenderReport(const nlohmann::json& document);

}  // namespace tarn::tool
