// SPDX-License-Identifier: Apache-2.0
//
// What the process may do, as the kernel sees it.
#pragma once

namespace tarn {

// The process's first thread has the same capabilities as the calling one.
bool SharesCapabilitiesWithFirstThread();

}  // namespace tarn
