// SPDX-License-Identifier: Apache-2.0
//
// What the process may do, as the kernel sees it.
#pragma once

namespace tarn {

// The calling thread has effective or permitted capabilities. Root has, as a rule. True where the kernel does not say.
bool HasCapabilities();

// The process's first thread has the same capabilities as the calling one.
bool SharesCapabilitiesWithFirstThread();

}  // namespace tarn
