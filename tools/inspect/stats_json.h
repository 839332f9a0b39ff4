// SPDX-License-Identifier: Apache-2.0
//
// The statistics of a process as JSON.
#pragma once

#include <nlohmann/json.hpp>

#include "allocator/include/tarn/memstats.h"
#include "allocator/include/tarn/registry.h"

namespace tarn::tool {

// All fields under their names in tarn/memstats.h; the size classes in use are the array "by_size".
nlohmann::json ToJson(const tarn_memstats_t& stats);
nlohmann::json ToJson(const tarn_memstats_cpu& cpu);
nlohmann::json ToJson(const tarn_registry_record& record);

}  // namespace tarn::tool
