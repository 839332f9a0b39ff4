// SPDX-License-Identifier: Apache-2.0
//
// The order of fields and the size of indices decide how much a million records take: padding is memory, too.
#include <tarn/object_pool.h>

#include <cstdint>
#include <cstdio>

namespace {

// Each bool is followed by padding up to the next pointer or number of 8 bytes.
struct Loose {
  bool active = true;
  std::int64_t id = 0;
  bool paid = false;
  double amount = 0;
  bool shipped = false;
  Loose* next = nullptr;
};

// The same facts: the largest fields first, an index of 4 bytes for the pointer, one bit for each bool.
struct Packed {
  std::int64_t id = 0;
  double amount = 0;
  std::uint32_t next = 0;
  std::uint32_t active : 1 = 1;
  std::uint32_t paid : 1 = 0;
  std::uint32_t shipped : 1 = 0;
};

static_assert(sizeof(Loose) == 48 && sizeof(Packed) == 24);

template <typename T>
std::size_t BytesOfMany(const char* name) {
  tarn::ObjectPool<T> pool(name);
  for (int i = 0; i < 100000; ++i) static_cast<void>(pool.Create());
  return pool.Stats().region_bytes;
}

}  // namespace

int main() {
  const std::size_t loose_bytes = BytesOfMany<Loose>("loose");
  const std::size_t packed_bytes = BytesOfMany<Packed>("packed");
  std::printf("%zu against %zu bytes each; 100000 records: %zu against %zu KiB\n", sizeof(Loose), sizeof(Packed),
              loose_bytes >> 10, packed_bytes >> 10);
  return packed_bytes * 19 < loose_bytes * 10 ? 0 : 1;
}
