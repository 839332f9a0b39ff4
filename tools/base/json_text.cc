// SPDX-License-Identifier: Apache-2.0

#include "tools/base/json_text.h"

#include <nlohmann/json.hpp>

namespace tarn::tool {

std::string JsonText(const nlohmann::json& document, JsonLayout layout) {
  return document.dump(layout == JsonLayout::kIndented ? 1 : -1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

}  // namespace tarn::tool
