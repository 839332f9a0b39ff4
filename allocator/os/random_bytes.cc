// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/random_bytes.h"

#include <sys/auxv.h>
#include <sys/random.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "allocator/base/mix_bits.h"
#include "allocator/os/clock.h"
#include "allocator/os/process.h"
#include "allocator/os/system_call.h"

namespace tarn {

void FillRandom(void* bytes, std::size_t count) {
  const long got = SystemCall(SYS_getrandom, bytes, count, GRND_NONBLOCK);
  if (got >= 0 && static_cast<std::size_t>(got) == count) return;
  std::uint64_t start[2] = {};
  if (const auto* const random = reinterpret_cast<const void*>(::getauxval(AT_RANDOM))) {
    std::memcpy(start, random, sizeof start);
  }
  std::uint64_t state = RealtimeNanoseconds() ^ (static_cast<std::uint64_t>(ProcessId()) << 32);
  auto* out = static_cast<char*>(bytes);
  for (std::size_t i = 0; count != 0; i = 1 - i) {
    const std::uint64_t word = MixBits(MixBits(state += kMixStep) ^ start[i]);
    const std::size_t here = std::min(count, sizeof word);
    std::memcpy(out, &word, here);
    out += here;
    count -= here;
  }
}

}  // namespace tarn
