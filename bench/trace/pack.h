// SPDX-License-Identifier: Apache-2.0
//
// Makes a trace of a recording: puts the calls of all threads into one order, and names instead of addresses.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "bench/trace/trace.h"

namespace tarn::trace {

struct PackResult {
  Trace trace;
  std::uint64_t calls;           // in the recording
  std::uint64_t packed;          // of them, those that the trace has
  std::uint64_t strangers;       // frees of objects that were not seen to be allocated: left out
  std::uint64_t inferred_frees;  // frees that were not seen, of objects whose address was allocated again
};

// Takes the first `max_events` events. Throws a TraceError.
PackResult Pack(std::span<const std::byte> recording, std::uint64_t max_events);

}  // namespace tarn::trace
