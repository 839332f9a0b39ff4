// SPDX-License-Identifier: Apache-2.0
//
// Which memory can be read, found out without reading it.
#include "allocator/os/stack_memory.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>

namespace tarn {
namespace {

constexpr std::size_t kPageBytes = 4096;

std::uintptr_t AddressOf(const void* memory) { return reinterpret_cast<std::uintptr_t>(memory); }

TEST(IsReadable, WhateverTheWordHolds) {
  alignas(8) std::uint64_t word = 0;
  EXPECT_TRUE(IsReadable(AddressOf(&word)));
  word = 0x0123456789ABCDEF;
  EXPECT_TRUE(IsReadable(AddressOf(&word)));
  EXPECT_EQ(word, 0x0123456789ABCDEFu);
  static const std::uint64_t constant = 1;
  EXPECT_TRUE(IsReadable(AddressOf(&constant)));
}

TEST(IsReadable, MemoryThatWasNeverTouched) {
  void* const page = mmap(nullptr, kPageBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  EXPECT_TRUE(IsReadable(AddressOf(page)));
  ASSERT_EQ(mprotect(page, kPageBytes, PROT_READ), 0);
  EXPECT_TRUE(IsReadable(AddressOf(page) + kPageBytes - 8));
  munmap(page, kPageBytes);
}

TEST(IsReadable, NotWhatIsClosedOrUnmappedOrTheKernels) {
  void* const page = mmap(nullptr, kPageBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(page, MAP_FAILED);
  errno = 0;
  EXPECT_FALSE(IsReadable(AddressOf(page)));
  ASSERT_EQ(munmap(page, kPageBytes), 0);
  EXPECT_FALSE(IsReadable(AddressOf(page)));
  EXPECT_FALSE(IsReadable(0));
  EXPECT_FALSE(IsReadable(~std::uintptr_t{7}));
  EXPECT_EQ(errno, 0);
}

}  // namespace
}  // namespace tarn
