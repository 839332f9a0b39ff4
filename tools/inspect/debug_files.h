// SPDX-License-Identifier: Apache-2.0
//
// Finds the file with the debug information of a program or library that has none of its own.
//
// Stays our own, because libdwfl's search (dwfl_standard_find_debuginfo) loads libdebuginfod, and half of the network's
// libraries with it, for each file that it does not find.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tarn::tool {

// Returns a descriptor of the file, or -1. Looks by build-id, and by the name and the CRC that .gnu_debuglink gives
// (`link`, null where there is none). Looks in `directories`, and in the places near `path` where gdb looks, too.
int OpenDebugFile(const std::string& path, const std::string& build_id, const std::vector<std::string>& directories,
                  const char* link, std::uint32_t crc);

}  // namespace tarn::tool
