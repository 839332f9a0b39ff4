// SPDX-License-Identifier: Apache-2.0
//
// The command line of a verb, read into what its options set.
#pragma once

#include <string>
#include <vector>

#include "tools/tarn/help.h"

namespace tarn::tool {

// False where help was asked for. Throws UsageError, which says what to do.
[[nodiscard]] bool ParseCommandLine(const Verb& verb, const ReadyVerb& ready, std::vector<std::string> arguments);

}  // namespace tarn::tool
