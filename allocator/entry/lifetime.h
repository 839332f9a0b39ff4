// SPDX-License-Identifier: Apache-2.0
//
// The library's own start, as far as the first allocation does not bring it about.
#pragma once

namespace tarn {

// Starts the heap and registers the fork handlers, once. Called before the program has threads.
void Load();

}  // namespace tarn
