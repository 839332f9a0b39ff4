// SPDX-License-Identifier: Apache-2.0
//
// Words of a workload definition with names in braces, as "{scratch}/text", and other text that the engine reads.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace tarn::tool {

// Replaces each "{name}" for which there is a value. Other braces stay as they are.
std::string Replaced(const std::string& text, const std::map<std::string, std::string>& values);
std::vector<std::string> Replaced(const std::vector<std::string>& words,
                                  const std::map<std::string, std::string>& values);

// The end of a file, for messages; empty where there is none.
std::string TailOf(const std::string& path);

}  // namespace tarn::tool
