// SPDX-License-Identifier: Apache-2.0
//
// The state of a thread: its id, and the mark of a slow path.

#include "allocator/os/thread_state.h"

#include <errno.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <thread>

namespace tarn {
namespace {

TEST(ThreadState, StartsWithoutASlabInEveryThread) {
  std::thread([] {
    EXPECT_EQ(thread_state.area.cpu_id, -1);
    EXPECT_EQ(thread_state.area.mm_cid, -1);
    EXPECT_EQ(thread_state.slab_index, -1);
    EXPECT_EQ(thread_state.slow_path_depth, 0u);
    EXPECT_FALSE(thread_state.exiting);
  }).join();
}

TEST(ThreadState, OffsetsHoldInEveryThread) {
  const std::ptrdiff_t offset = ThreadPointerOffset(&thread_state.id);
  std::thread([offset] { EXPECT_EQ(ThreadPointerOffset(&thread_state.id), offset); }).join();
}

TEST(ThreadId, IsItsOwnInEveryThread) {
  const std::uint32_t here = ThreadId();
  std::thread([here] {
    EXPECT_NE(ThreadId(), 0u);
    EXPECT_EQ(ThreadId(), ThreadId());
    EXPECT_NE(ThreadId(), here);
  }).join();
  EXPECT_EQ(ThreadId(), here);
}

TEST(SlowPathScope, TellsWhetherItIsNested) {
  for (int round = 0; round < 2; ++round) {
    SlowPathScope outer;
    EXPECT_FALSE(outer.nested());
    {
      SlowPathScope inner;
      EXPECT_TRUE(inner.nested());
      SlowPathScope innermost;
      EXPECT_TRUE(innermost.nested());
      EXPECT_EQ(thread_state.slow_path_depth, 3u);
    }
    SlowPathScope again;
    EXPECT_TRUE(again.nested());
  }
  EXPECT_EQ(thread_state.slow_path_depth, 0u);
}

TEST(SlowPathScope, BelongsToItsThread) {
  SlowPathScope here;
  std::thread([] {
    SlowPathScope there;
    EXPECT_FALSE(there.nested());
  }).join();
}

TEST(SlowPathScope, KeepsErrno) {
  errno = ERANGE;
  {
    SlowPathScope outer;
    errno = ENOMEM;
    {
      SlowPathScope inner;
      errno = EINVAL;
    }
    EXPECT_EQ(errno, ENOMEM);
  }
  EXPECT_EQ(errno, ERANGE);
}

}  // namespace
}  // namespace tarn
