// SPDX-License-Identifier: Apache-2.0
//
// The record of a pool or an arena of a test.
#pragma once

#include <tarn/registry.h>

#include <cstring>

namespace tarn_test {

// Null where none of this name is.
inline const tarn_registry_record* Find(const char* name) {
  for (int i = 0; i < TARN_REGISTRY_RECORDS; ++i) {
    if (std::strcmp(tarn_registry()[i].name, name) == 0) return &tarn_registry()[i];
  }
  return nullptr;
}

}  // namespace tarn_test
