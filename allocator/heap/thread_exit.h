// SPDX-License-Identifier: Apache-2.0
//
// Prepares a thread for its first slow path, and cleans up at its end.
#pragma once

namespace tarn {

// Starts the heap if this is the process's first allocation, and attaches the thread to its slab where slabs belong to
// threads. Not when nested in another slow path: the interrupted one has been here, or is here.
void PrepareThread();

}  // namespace tarn
