// SPDX-License-Identifier: Apache-2.0
//
// The sections of the report. Each appends to `out` its HTML, or nothing where the document has nothing for it.
#pragma once

#include <string>

#include "tools/tarn/report/document.h"

namespace tarn::tool::report {

// Ratios to the reference, a row per workload, one table for each measure to choose.
void AppendMainTables(const BenchDocument& document, std::string* out);
// Speed against memory.
void AppendScatter(const BenchDocument& document, std::string* out);
// Percentiles of malloc and free, of the workloads that tell them.
void AppendLatency(const BenchDocument& document, std::string* out);
// Of workloads whose names differ in a number of threads only.
void AppendScaling(const BenchDocument& document, std::string* out);
// Everything about each workload: medians, every run, RSS over time, the commands.
void AppendWorkloads(const BenchDocument& document, std::string* out);
// The machine, the build, the allocators and their hashes.
void AppendMachine(const BenchDocument& document, std::string* out);

}  // namespace tarn::tool::report
