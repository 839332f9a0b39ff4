// SPDX-License-Identifier: Apache-2.0
//
// The key stream: the numbers of ChaCha8, and what a new key and another number change.
#include "allocator/base/random_stream.h"

#include <gtest/gtest.h>

#include <set>

namespace tarn {
namespace {

// The first block of ChaCha8 for a key and a nonce of zeroes (draft-strombergson-chacha-test-vectors-00,
// TC1 with 256 bits), as words of eight bytes, the lowest first.
constexpr std::uint64_t kFirstBlock[] = {0xD6405F892FEF003E, 0xA1A5091FE8B85B7F, 0x3B7F9ACEC30E842C,
                                         0x1E1A71EF88E11B18, 0x416F21B972E14C98, 0x19566D456753449F,
                                         0x01B086DAA3424A31, 0x42FE0C0EB8FD7B38};

TEST(RandomStreamTest, GivesTheNumbersOfChaCha8) {
  constexpr RandomKey kZero = {};
  RandomStream stream;
  stream.Init(&kZero, 0);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(stream.Next(), kFirstBlock[i]) << i;
}

TEST(RandomStreamTest, NumbersDifferByTheStreamTheKeyAndThePlace) {
  RandomKey key = {};
  std::set<std::uint64_t> seen;
  RandomStream streams[4];
  for (std::uint32_t i = 0; i < 4; ++i) streams[i].Init(&key, i);
  std::size_t drawn = 0;
  for (int i = 0; i < 1000; ++i) {
    for (RandomStream& stream : streams) {
      seen.insert(stream.Next());
      ++drawn;
    }
  }
  key.words[3] = 1;
  RandomStream other;
  other.Init(&key, 0);
  for (int i = 0; i < 1000; ++i, ++drawn) seen.insert(other.Next());
  EXPECT_EQ(seen.size(), drawn);
}

TEST(RandomStreamTest, ARestartTakesTheKeyAsItIs) {
  RandomKey key = {};
  RandomStream stream;
  stream.Init(&key, 0);
  static_cast<void>(stream.Next());
  RandomStream parent = stream;
  RandomStream kept = stream;
  key.words[0] = 1;
  // In store: the rest of the block.
  EXPECT_EQ(kept.Next(), parent.Next());
  stream.Restart();
  EXPECT_NE(stream.Next(), parent.Next());
}

}  // namespace
}  // namespace tarn
