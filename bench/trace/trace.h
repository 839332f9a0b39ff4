// SPDX-License-Identifier: Apache-2.0
//
// A trace: what the threads of a program asked of malloc, without addresses and without time. In memory, and as a file.
//
// `trace_tool pack` makes it, `replay` runs it. docs/traces.md describes the file, byte by byte.
//
// Objects have names instead of addresses: (thread, index) is the index-th object that the thread got, by malloc,
// calloc, an aligned allocation or realloc. A realloc ends one object and makes another one, even where it does not
// move.
//
// What stays true of a trace that Read has returned:
//  - every free and realloc is of an object that is made somewhere in the trace, and no object ends twice;
//  - every thread but the first, which is there from the beginning, is started once, by another one;
//  - it can be run: threads that do their events in order, and wait for the objects of others, come to the end.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace tarn::trace {

enum class Kind : std::uint8_t { kMalloc, kCalloc, kAligned, kRealloc, kFree, kStart };
inline constexpr std::size_t kKinds = 6;
inline constexpr const char* kKindNames[kKinds] = {"malloc", "calloc", "aligned", "realloc", "free", "start"};

inline constexpr bool MakesObject(Kind kind) { return kind <= Kind::kRealloc; }
inline constexpr bool EndsObject(Kind kind) { return kind == Kind::kRealloc || kind == Kind::kFree; }

struct Event {
  Kind kind;
  std::uint8_t alignment_log2;  // of kAligned, else 0
  std::uint32_t thread;         // of the object that ends, or the thread that is started
  std::uint32_t index;          // of the object that ends
  std::uint64_t bytes;          // of the object that is made
};

inline constexpr std::uint64_t kMaxBytes = (std::uint64_t{1} << 48) - 1;  // no request of user space is larger
inline constexpr unsigned kMaxAlignmentLog2 = 40;
inline constexpr std::size_t kMaxThreads = 1 << 16;
inline constexpr std::uint64_t kMaxEvents = std::uint64_t{1} << 31;  // indices have 32 bits

// All memory comes from `memory`, because a program that is being measured must not use its malloc for it.
struct Trace {
  explicit Trace(std::pmr::memory_resource* memory) : program(memory), threads(memory) {}

  std::pmr::string program;      // the name of the recording, for people
  std::uint64_t peak_bytes = 0;  // the most that was allocated at one time of the recording, as requested
  std::pmr::vector<std::pmr::vector<Event>> threads;
};

struct TraceError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// Both throw a TraceError that says what is wrong. Write checks what Read does.
std::pmr::vector<std::byte> Write(const Trace& trace, std::pmr::memory_resource* memory);
Trace Read(std::span<const std::byte> file, std::pmr::memory_resource* memory);

}  // namespace tarn::trace
