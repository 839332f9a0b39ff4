// SPDX-License-Identifier: Apache-2.0
//
// SHA-256 of outputs and libraries, by libmd.
#pragma once

#include <string>
#include <vector>

namespace tarn::tool {

// Hexadecimal. FileSha256 is empty where the file cannot be read.
std::string Sha256(const std::string& bytes);
std::string FileSha256(const std::string& path);

// Of the contents of several files, one after the other. A file that is missing counts as other content than none.
std::string FilesSha256(const std::vector<std::string>& paths);

}  // namespace tarn::tool
