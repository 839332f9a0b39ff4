// SPDX-License-Identifier: Apache-2.0
//
// A C++ program whose allocations go through operator new and aligned operator new.
#include <tarn/malloc.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

struct alignas(256) Aligned {
  char bytes[256];
};

int main() {
  std::vector<std::string> strings;
  for (int i = 0; i < 1000; ++i) strings.push_back(std::string(static_cast<std::size_t>(i), 'x'));
  const auto aligned = std::make_unique<Aligned>();
  aligned->bytes[0] = strings.back()[0];
  // Declared by tarn's header alone, and exported by tarn alone.
  free_sized(std::malloc(100), 100);
  return std::puts(aligned->bytes[0] == 'x' ? "hello" : "wrong") == EOF;
}
