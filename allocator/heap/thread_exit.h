// SPDX-License-Identifier: Apache-2.0
//
// What a thread needs before it takes a slow path, and what it leaves behind.
#pragma once

namespace tarn {

// Starts the heap if this is the process's first allocation, and attaches the thread to its slab where slabs belong to
// threads. Not when nested in another slow path: whoever that interrupted has been here, or is here.
void PrepareThread();

}  // namespace tarn
