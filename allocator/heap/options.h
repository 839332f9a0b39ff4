// SPDX-License-Identifier: Apache-2.0
//
// The settings of the process, from the environment.
//
// Read once, at the first allocation; ignored when the process runs with rights that its caller does not have. Every
// name that begins with TARN_ and is not known, and every value that cannot be used, is reported on stderr, with the
// nearest right one. TARN_STRICT=on makes that fatal: exit code 78. What the preset sets comes before the defaults,
// what the environment sets by name before both, and what the program sets while it runs before all.
//
//   TARN_PRESET      production|staging|development|off  a set of the settings below (heap/presets.cc) off
//   TARN_VERBOSE     on|off            a line at the start that tells version and modes          off
//   TARN_STATS       on|off            statistics on stderr at the process's end                 off
//   TARN_MODE        auto|cpu|thread   who owns the slabs of the caches                          auto
//   TARN_CPU_CACHE   bytes             budget of one CPU's slab, 0 turns the caches off          1536KiB
//   TARN_PROFILE_RATE  bytes           mean distance of the heap profile's samples, 0 turns it off 512KiB
//   TARN_PROFILE_PREFIX  text          what the files of the next four begin with (heap/profile_dumps.h) tarn
//   TARN_PROFILE_AT_EXIT  on|off       a profile is written at the process's end                 off
//   TARN_PROFILE_SIGNAL  name|off      and when this signal comes                                off
//   TARN_PROFILE_GROWTH  bytes         and when the heap's peak has risen by so much, 0: never   0
//   TARN_PROFILE_AT_LIMIT  N%|on|off   and when memory comes to this share of the limit; on: 90% off
//   TARN_STRICT      on|off            a wrong setting ends the process                          off
//   TARN_MEMORY_LIMIT bytes|N%|auto|off  resident memory to stay below (docs/memory-return.md)   auto
//   TARN_HARD_LIMIT  bytes|N%|off      memory beyond which allocations fail                     off
//   TARN_BACKGROUND  auto|on|off       when threads of tarn's own may exist (heap/background.h)  auto
//   TARN_RELEASE_DELAY  time           how long memory stays that was in use (pages/demand.h)   1500ms
//   TARN_HUGE_PAGES  on|off            huge pages of the kernel's are asked for (docs/memory-return.md) on
//   TARN_CHECK       on|off            checks pools, arenas, heaps, and the sizes of frees      off
//   TARN_POOL_OBJECTS  number          what a pool keeps at most, if it does not say itself     1024
//   TARN_TRACE       scavenge|off      a line on stderr per cycle of the scavenger               off
//
// on: on, 1, yes, true. off: off, 0, no, false. bytes: a number, with B, KiB, MiB, GiB or TiB behind it. time: a number
// with ms or s behind it.
// Names that begin with TARN_TEST_ belong to tarn's own tests and mean nothing to the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "allocator/heap/background.h"
#include "allocator/heap/limits.h"
#include "allocator/heap/presets.h"
#include "allocator/include/tarn/snapshot.h"
#include "allocator/pages/demand.h"

namespace tarn {

enum class ModeRequest : std::uint8_t { kAuto, kCpu, kThread };

struct Options {
  Preset preset;
  bool verbose;
  bool stats;
  bool strict;
  ModeRequest mode;
  // Per slab. In the thread mode a slab gets a part of it (see kThreadBudgetDivisor in process_heap.cc).
  std::size_t cpu_cache_bytes;
  std::size_t profile_rate_bytes;
  // Points into the environment, which the program may change: whoever keeps it copies it.
  std::string_view profile_prefix;
  bool profile_at_exit;
  int profile_signal;  // 0: none
  std::size_t profile_growth_bytes;
  unsigned profile_limit_percent;  // 0: none
  BackgroundSetting background;
  std::uint32_t release_delay_ms;
  bool huge_pages;
  bool check;
  std::uint32_t pool_objects;
  bool trace_scavenge;
  LimitSetting memory_limit;
  LimitSetting hard_limit;
  // Where each setting comes from: bit i is that of the setting which DescribeOptions lists as number i. The one that
  // counts most is the last that has the bit.
  std::uint32_t from_preset;
  std::uint32_t from_environment;
  std::uint32_t from_program;
};

inline constexpr Options kDefaultOptions = {
    .preset = Preset::kOff,
    .verbose = false,
    .stats = false,
    .strict = false,
    .mode = ModeRequest::kAuto,
    .cpu_cache_bytes = std::size_t{1536} << 10,
    .profile_rate_bytes = std::size_t{512} << 10,
    .profile_prefix = "tarn",
    .profile_at_exit = false,
    .profile_signal = 0,
    .profile_growth_bytes = 0,
    .profile_limit_percent = 0,
    .background = BackgroundSetting::kAuto,
    .release_delay_ms = Demand::kDefaultWindowMs,
    .huge_pages = true,
    .check = false,
    .pool_objects = 1024,
    .trace_scavenge = false,
    .memory_limit = {LimitSetting::Kind::kAuto, 0},
    .hard_limit = {LimitSetting::Kind::kNone, 0},
    .from_preset = 0,
    .from_environment = 0,
    .from_program = 0,
};

// Parses the NULL-terminated NAME=value strings (null: none). Each complaint is passed to `complain` as one line
// without a line end; returns their number.
using Complain = void (*)(const char* line, std::size_t length);
int ParseOptions(const char* const* environment, Options* options, Complain complain);

// Replaces what came from another preset, as far as it can change while the program runs (see kSettings in options.cc).
// What the environment or the program has set by name stays.
void ChangePreset(Preset preset, Options* options);

// What the settings are, for people: name, value, default and source of each.
inline constexpr std::size_t kSettingCount = 20;
using DescribedOptions = tarn_snapshot_option[kSettingCount];
void DescribeOptions(const Options& options, DescribedOptions& described);
// The program has changed this one.
void NoteProgramSetting(std::string_view name, Options* options, DescribedOptions& described);

}  // namespace tarn
