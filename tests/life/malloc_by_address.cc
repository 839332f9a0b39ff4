// SPDX-License-Identifier: Apache-2.0
//
// A program of position-dependent code that takes malloc's address, which is then that of its own jump table.
#include <cstdlib>

int main() {
  void* (*volatile allocate)(std::size_t) = &std::malloc;
  void* object = allocate(100);
  std::free(object);
  return object == nullptr ? 1 : 0;
}
