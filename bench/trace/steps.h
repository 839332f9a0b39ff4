// SPDX-License-Identifier: Apache-2.0
//
// A trace made ready to be replayed: a flat array of steps for each thread, and a table of places for the objects.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <vector>

#include "bench/trace/trace.h"

namespace tarn::trace {

// An event, ready to be done.
struct Step {
  std::uint64_t what;   // kind << 56 | log2 of the alignment << 48 | bytes
  std::uint32_t makes;  // the place of the object that is made, or the thread that is started
  std::uint32_t ends;   // the place of the object that ends

  Kind kind() const { return static_cast<Kind>(what >> 56); }
  std::size_t alignment() const { return std::size_t{1} << (what >> 48 & 0xFF); }
  std::size_t bytes() const { return what & kMaxBytes; }
};

using Place = std::atomic<void*>;

struct Program {
  explicit Program(std::pmr::memory_resource* memory) : threads(memory), kept(memory) {}

  std::pmr::vector<std::pmr::vector<Step>> threads;
  std::pmr::vector<std::uint32_t> kept;  // the places of objects that the trace never ends
  std::size_t places = 0;
  std::uint64_t counts[kKinds] = {};
  std::uint64_t bytes = 0;
};

// `memory` holds the result, `scratch` what is needed on the way.
Program Prepare(const Trace& trace, std::pmr::memory_resource* memory, std::pmr::memory_resource* scratch);

}  // namespace tarn::trace
