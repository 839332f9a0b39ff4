// SPDX-License-Identifier: Apache-2.0
//
// Objects that know their owner, for tests in which objects wander between threads.
//
// The stamps are plain memory, so that ThreadSanitizer sees an object that is handed on without order: its next owner
// reads what the last one wrote.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "size_classes/size_classes.h"

namespace tarn_test {

// Written to the first and the last 8 bytes (which are the same of the smallest class).
inline void StampObject(void* object, tarn::SizeClass size_class, std::uint64_t stamp) {
  char* bytes = static_cast<char*>(object);
  std::memcpy(bytes, &stamp, sizeof(stamp));
  std::memcpy(bytes + tarn::kSizeClasses[size_class].size_bytes - sizeof(stamp), &stamp, sizeof(stamp));
}

inline bool HasStamp(const void* object, tarn::SizeClass size_class, std::uint64_t stamp) {
  const char* bytes = static_cast<const char*>(object);
  return std::memcmp(bytes, &stamp, sizeof(stamp)) == 0 &&
         std::memcmp(bytes + tarn::kSizeClasses[size_class].size_bytes - sizeof(stamp), &stamp, sizeof(stamp)) == 0;
}

}  // namespace tarn_test
