// SPDX-License-Identifier: Apache-2.0
//
// The fixed-size allocator of the Go articles: 1000 blocks, 10 000 requests, half of the blocks freed.
#include <tarn/fixed_pool.h>

#include <cstdio>
#include <vector>

int main() {
  tarn::FixedPool pool(64, 1000, "blocks");
  std::vector<void*> blocks;
  int refused = 0;
  for (int i = 0; i < 10000; ++i) {
    if (void* block = pool.Allocate()) {
      blocks.push_back(block);
    } else {
      ++refused;
    }
  }
  for (std::size_t i = 0; i < blocks.size() / 2; ++i) pool.Free(blocks[i]);
  const tarn_fixed_pool_stats stats = pool.Stats();
  std::printf("refused %d; allocated %zu / free %zu / total %zu\n", refused, stats.allocated, stats.free, stats.total);
  return stats.allocated == 500 && stats.free == 500 && stats.total == 1000 && refused == 9000 ? 0 : 1;
}
