// SPDX-License-Identifier: Apache-2.0
//
// The file that record_requests writes and replay_requests reads: an array of these, in the order of the calls, zeros
// behind the last one.
#pragma once

#include <cstdint>

namespace tarn {

struct RequestEvent {
  std::uint64_t address;         // of the object; 0 only behind the last event
  std::uint64_t bytes_plus_one;  // requested, plus one; 0 for a free
};

}  // namespace tarn
