// SPDX-License-Identifier: Apache-2.0
//
// The facts about a machine that a figure of it depends on: the "machine" of a result document.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace tarn::tool {

// cpu_model, logical_cpus (those this process may use), physical_cores, numa_nodes, memory_bytes, kernel, libc,
// thp {enabled, defrag, shmem_enabled}, governor, load_average [1, 5, 15 minutes], virtual_machine, topology (lines of
// a tree), placements {policy: {meaning, cpus | why_not}}. Unknown facts are null.
nlohmann::json CollectMachine();

}  // namespace tarn::tool
