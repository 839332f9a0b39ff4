// Profiles in files.
#pragma once

#include <string>

#include "tools/tarn/profile/profile.h"

namespace tarn::tool {

// Compressed or not; "-" is the standard input. Throws ProfileError, which names the file.
Profile ReadProfileFile(const std::string& path);

// Compressed; "-" is the standard output. Throws ProfileError, which names the file.
void WriteProfileFile(const Profile& profile, const std::string& path);

}  // namespace tarn::tool
