// SPDX-License-Identifier: Apache-2.0
//
// The rights of the process, as the kernel sees them.
#pragma once

namespace tarn {

// The process's first thread has the same capabilities as the calling one.
bool SharesCapabilitiesWithFirstThread();

}  // namespace tarn
