// SPDX-License-Identifier: Apache-2.0
//
// Containers of std::pmr on a heap with a limit of its own: code that names no resource uses it through the default
// one.
#include <tarn/heap.h>
#include <tarn/memory_resource.h>

#include <cstdio>
#include <map>
#include <new>
#include <string>

namespace {

// Knows nothing of tarn.
std::pmr::map<int, std::pmr::string> Load(int count) {
  std::pmr::map<int, std::pmr::string> table;
  for (int i = 0; i < count; ++i) table.emplace(i, "a text that is too long to be kept inside of the string object");
  return table;
}

}  // namespace

int main() {
  tarn::Heap heap({.name = "tenant", .limit_bytes = 1 << 20});
  const tarn::ScopedDefaultResource scope(&heap);
  bool refused = false;
  {
    const auto table = Load(1000);
    std::printf("%zu entries take %zu bytes\n", table.size(), heap.Stats().live_bytes);
    try {
      static_cast<void>(Load(100000));
    } catch (const std::bad_alloc&) {
      refused = true;
    }
  }
  std::printf("a table of 100000 entries was %s; %zu objects are left\n", refused ? "refused" : "loaded",
              heap.Stats().live_objects);
  return refused && heap.Stats().live_objects == 0 ? 0 : 1;
}
