// SPDX-License-Identifier: Apache-2.0
//
// The common part of fuzzers: an oracle's complaint, and an input that is read as choices.
//
// A fuzzer defines LLVMFuzzerTestOneInput; cmake/tarn_fuzz.cmake says how it is built. A reader of text or bytes gets
// the input as it is. A structure gets an Input, from which it takes one choice after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

// Ends the process where an oracle finds a wrong result. libFuzzer keeps the input.
#define FUZZ_REQUIRE(condition)                                                    \
  do {                                                                             \
    if (!(condition)) {                                                            \
      std::fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                \
    }                                                                              \
  } while (false)

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace tarn_test {

inline std::string_view AsText(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// Choices from the bytes of an input, from its front. Behind the end each choice is 0.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

  bool empty() const { return at_ == end_; }
  std::uint8_t Byte() { return empty() ? std::uint8_t{0} : *at_++; }
  // A number of that many bytes, the lowest first.
  std::uint64_t Number(int bytes) {
    std::uint64_t number = 0;
    for (int i = 0; i < bytes; ++i) number |= std::uint64_t{Byte()} << (8 * i);
    return number;
  }
  // A number below the bound, which is not 0. It takes as many bytes as the bound needs.
  std::uint64_t Below(std::uint64_t bound) {
    int bytes = 1;
    while (bytes < 8 && (bound - 1) >> (8 * bytes) != 0) ++bytes;
    return Number(bytes) % bound;
  }
  bool OneIn(std::uint64_t bound) { return Below(bound) == bound - 1; }
  // At most that many bytes.
  std::string_view Bytes(std::size_t count) {
    const std::size_t left = static_cast<std::size_t>(end_ - at_);
    const std::string_view bytes = AsText(at_, count < left ? count : left);
    at_ += bytes.size();
    return bytes;
  }
  std::string_view Rest() { return Bytes(static_cast<std::size_t>(end_ - at_)); }

 private:
  const std::uint8_t* at_;
  const std::uint8_t* end_;
};

}  // namespace tarn_test
