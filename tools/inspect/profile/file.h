// SPDX-License-Identifier: Apache-2.0
//
// Profiles in files.
#pragma once

#include <string>

#include "tools/inspect/profile/profile.h"

namespace tarn::tool {

// Compressed or not; "-" is the standard input. Throws ProfileError, which names the file.
Profile ReadProfileFile(const std::string& path);

// The content of a file: the profile's bytes, compressed.
std::string ProfileFileBytes(const Profile& profile);

}  // namespace tarn::tool
