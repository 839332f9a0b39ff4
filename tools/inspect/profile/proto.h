// SPDX-License-Identifier: Apache-2.0
//
// A profile as bytes of profile.proto, without the compression around them.
#pragma once

#include <string>
#include <string_view>

#include "tools/inspect/profile/profile.h"

namespace tarn::tool {

std::string EncodeProfile(const Profile& profile);

// Throws ProfileError where `bytes` is not a profile that holds together: an id that nothing has, a text beyond the
// table, a sample with a wrong number of values. Unknown fields are skipped, as protocol buffers want it.
Profile DecodeProfile(std::string_view bytes);

}  // namespace tarn::tool
