// SPDX-License-Identifier: Apache-2.0
//
// The start of a small file of /proc or /sys, read in one go.
//
// By bare system calls: open(2) and its kin are cancellation points in libc, which malloc must not be, and the
// scavenger's thread is none of libc's (os/bare_thread.h).
#pragma once

#include <cstddef>
#include <string_view>

namespace tarn {

// Reads at most `capacity` bytes of the file; returns their number, 0 when it cannot be read. May change errno.
std::size_t ReadSmallFile(const char* path, char* text, std::size_t capacity);

template <std::size_t kCapacity>
class SmallFile {
 public:
  explicit SmallFile(const char* path) : length_(ReadSmallFile(path, text_, kCapacity)) {}
  // Empty when the file could not be read.
  std::string_view text() const { return {text_, length_}; }

 private:
  char text_[kCapacity];
  std::size_t length_;
};

}  // namespace tarn
