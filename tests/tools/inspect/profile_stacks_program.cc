// SPDX-License-Identifier: Apache-2.0
//
// Holds a million objects that ten thousand stacks have allocated, each through some of two hundred functions: what
// profile_live_test.py measures the tool on. Says "ready" and waits for the end of its input.

#include <array>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace {

constexpr int kFunctions = 100;
constexpr int kObjects = 100;
constexpr int kDepth = 12;

void* volatile last;

template <int kNumber>
__attribute__((noinline)) void Inner() {
  for (int i = 0; i < kObjects; ++i) last = std::malloc(1024);
}

using Function = void (*)();

template <int... kNumbers>
constexpr std::array<Function, kFunctions> Inners(std::integer_sequence<int, kNumbers...>) {
  return {&Inner<kNumbers>...};
}

// Some frames that all stacks have, as programs do.
__attribute__((noinline)) void Descend(int depth, Function function) {
  if (depth == 0) {
    function();
  } else {
    Descend(depth - 1, function);
  }
  __asm__ volatile("");
}

template <int kNumber>
__attribute__((noinline)) void Outer() {
  for (const Function inner : Inners(std::make_integer_sequence<int, kFunctions>())) Descend(kDepth, inner);
}

template <int... kNumbers>
void All(std::integer_sequence<int, kNumbers...>) {
  (Outer<kNumbers>(), ...);
}

}  // namespace

int main() {
  All(std::make_integer_sequence<int, kFunctions>());
  std::puts("ready");
  std::fflush(stdout);
  return std::getchar() == 0;
}
