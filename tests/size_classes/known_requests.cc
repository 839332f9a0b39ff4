// SPDX-License-Identifier: Apache-2.0
//
// A program whose requests are known, for the test of recorder and replay (record_and_replay says what follows from
// them): 100 000 objects of 200 bytes, all live at once, of which every third one was an object of 16 bytes first.

#include <cstddef>
#include <cstdlib>

namespace {

constexpr std::size_t kObjects = 100'000;
void* objects[kObjects];

void* Allocate(std::size_t number) {
  if (number % 3 == 0) return std::realloc(std::malloc(16), 200);
  if (number % 3 == 1) return std::calloc(2, 100);
  return std::malloc(200);
}

}  // namespace

int main() {
  for (std::size_t number = 0; number < kObjects; ++number) {
    objects[number] = Allocate(number);
    if (objects[number] == nullptr) return 1;
  }
  for (void* object : objects) std::free(object);
  return 0;
}
