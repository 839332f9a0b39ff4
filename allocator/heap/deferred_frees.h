// SPDX-License-Identifier: Apache-2.0
//
// Frees by signal handlers that interrupted tarn.
//
// Such a free may need a lock that its own thread holds. So the object is put aside, for the next slow path that is
// not nested.
#pragma once

namespace tarn {

// Puts the object aside. What finds no place is leaked.
void DeferFree(void* object);

// Frees what was put aside. In a slow path that is not nested.
void FreeDeferred();

}  // namespace tarn
