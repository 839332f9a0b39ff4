// SPDX-License-Identifier: Apache-2.0
//
// TARN_RELEASE_DELAY=8s, which the test is started with: what is kept for long is given back in the end.
//
// Pages of huge pages in use go at the second pass over them after they were freed. The passes are as far apart as the
// delay. The scavenger's thread may not end before, or a process that sleeps keeps the memory for ever.

#include <gtest/gtest.h>
#include <stdio.h>

#include <cstring>
#include <vector>

#include "allocator/include/tarn/limits.h"
#include "tests/base/patience.h"
#include "tests/entry/on_tarn.h"
#include "tests/life/expect_child.h"
#include "tests/life/parked_thread.h"
#include "tests/life/process.h"

namespace tarn_test {
namespace {

TEST(ReleaseDelay, EndsBeforeTheScavengersThreadDoes) {
  ExpectGoodEnd(2 * kPatienceSeconds, [] {
    ParkAThread();
    constexpr size_t kBytes = 48 * kMiB;
    std::vector<char*> objects(kBytes / 4096);
    for (char*& object : objects) {
      object = static_cast<char*>(malloc(4096));
      memset(object, 1, 4096);
    }
    // By the clock, for a busy machine sleeps longer than it is told to.
    const double start = Seconds();
    for (size_t i = 0; i < objects.size(); ++i) {
      if (i % 64 != 0) free(objects[i]);
    }
    double elapsed = 0;
    while (tarn::LimitStats().scavenger_released_bytes < kBytes / 2 && elapsed < kPatienceSeconds) {
      Sleep(100'000);
      elapsed = Seconds() - start;
    }
    TARN_LIFE_REQUIRE(tarn::LimitStats().scavenger_released_bytes >= kBytes / 2);
    // And not before its time.
    TARN_LIFE_REQUIRE(elapsed >= 7);
  });
}

}  // namespace
}  // namespace tarn_test
