// SPDX-License-Identifier: Apache-2.0
//
// The public function of the checked mode: tarn/check.h.
#include "allocator/base/attributes.h"
#include "allocator/heap/checked_objects.h"
#include "allocator/include/tarn/check.h"

extern "C" {

TARN_EXPORT std::size_t tarn_check_heap() { return tarn::SweepChecked("tarn_check_heap"); }

}  // extern "C"
