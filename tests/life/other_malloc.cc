// SPDX-License-Identifier: Apache-2.0
//
// A malloc of its own: a library that stands in front of tarn, or, with a main function, a program that defines it.
#include <cstddef>
#include <cstring>

namespace {

alignas(16) char g_memory[1 << 20];
std::size_t g_used;

}  // namespace

extern "C" {

void* malloc(std::size_t bytes) {
  const std::size_t start = __atomic_fetch_add(&g_used, (bytes + 31) / 16 * 16, __ATOMIC_RELAXED);
  if (bytes > sizeof(g_memory) || start > sizeof(g_memory) - bytes - 32) return nullptr;
  return g_memory + start;
}
void free(void*) {}
void* calloc(std::size_t count, std::size_t bytes) { return malloc(count * bytes); }
void* realloc(void* object, std::size_t bytes) {
  void* moved = malloc(bytes);
  // Behind the old object lies memory of this array, too.
  if (moved != nullptr && object != nullptr) std::memcpy(moved, object, bytes);
  return moved;
}

}  // extern "C"

#if defined(TARN_WITH_MAIN)
int main() { return malloc(1) == nullptr ? 1 : 0; }
#endif
