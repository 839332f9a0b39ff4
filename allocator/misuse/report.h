// SPDX-License-Identifier: Apache-2.0
//
// The report of a misuse: its facts, and how they are written.
//
// The first line is that of os/crash.h. Behind it stand the object, the stacks of this access or call, of the free and
// of the allocation, and what to do. Call sites are written as addresses with the file that they lie in and their
// offset in it, which addr2line and `tarn symbolize` turn into lines. The function's name stands there too where the
// file's dynamic symbols have it.
//
// Takes no lock, allocates nothing, and may run in a signal handler with little stack. One report is written at a time:
// another thread waits for its end, for two seconds at most.
#pragma once

#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/os/crash.h"
#include "allocator/settings/options.h"

namespace tarn {

// Call sites as unwind/stack_walk.h finds them, and the thread, by tarn's number (os/thread_state.h). The kernel's
// would take a system call, which a sandbox may not allow. No sites: nothing is known.
struct StackFacts {
  const std::uintptr_t* sites = nullptr;
  std::size_t count = 0;
  std::uint32_t thread = 0;
};

// The calling thread's stack.
struct StackHere {
  static constexpr std::size_t kMaxSites = 32;

  StackHere();
  StackFacts facts() const { return {sites, count, thread}; }

  std::uintptr_t sites[kMaxSites];
  std::size_t count;
  std::uint32_t thread;
};

// A fact that is not known is zero, and is left out.
struct MisuseReport {
  enum class ObjectState : std::uint8_t { kUnknown, kLive, kFreed };

  // The kind, the call or the access, the address, and the start and the bytes of the object.
  Misuse misuse;
  std::size_t requested_bytes = 0;
  ObjectState state = ObjectState::kUnknown;
  // Names what guards the object, in a word or two.
  const char* guard = nullptr;
  StackFacts here;
  StackFacts free;
  StackFacts allocation;
};

// Takes over the settings of reports. Once, at the start.
void SetUpReports(const Options& options);

// Writes the report, then aborts.
[[noreturn]] TARN_COLD void ReportAndAbort(const MisuseReport& report);
// Writes the report, then aborts, unless TARN_CHECK_CONTINUE is on. Of the reports after which the process goes on, the
// first hundred are written.
TARN_COLD void ReportAndMayGoOn(const MisuseReport& report);

// The live objects at the end of the process, by the stacks that allocated them, those with the most bytes.
struct LiveReport {
  static constexpr std::size_t kMostShown = 20;
  struct Place {
    std::uint64_t bytes = 0;
    std::uint64_t objects = 0;
    StackFacts allocation;
  };

  std::uint64_t bytes = 0;
  std::uint64_t objects = 0;
  std::size_t places = 0;
  std::size_t shown = 0;
  Place largest[kMostShown];
};
void WriteLiveReport(const LiveReport& report);

// The word for the kind in JSON: "use-after-free".
const char* MisuseWord(Misuse::Kind kind);

}  // namespace tarn
