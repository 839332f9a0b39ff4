// SPDX-License-Identifier: Apache-2.0
//
// Gzip in memory, for profiles: pprof's files are compressed, and may as well not be.
#pragma once

#include <string>
#include <string_view>

namespace tarn::tool {

bool IsGzip(std::string_view bytes);
std::string Compress(std::string_view bytes);
// Throws ProfileError when `bytes` is damaged, or holds more than a profile ever does.
std::string Decompress(std::string_view bytes);

}  // namespace tarn::tool
