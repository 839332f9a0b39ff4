// SPDX-License-Identifier: Apache-2.0
//
// The values of all settings of a process.
//
// settings/table.h says what each one is, settings/settings.h reads them from the environment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tarn {

// Sets of settings for the stages of a program's life.
//
// Production spends memory on steadiness: it keeps what a slower rhythm will want again, recycles more, and never stops
// a program for a setting that is wrong. Staging finds out what production would not survive: too little memory, misuse
// of pools and arenas, misspelt settings. Development looks closest.
enum class Preset : std::uint8_t { kOff, kProduction, kStaging, kDevelopment };

enum class ModeRequest : std::uint8_t { kAuto, kCpu, kThread };

// Permits background threads (policy/background.h).
enum class BackgroundSetting : std::uint8_t { kAuto, kOn, kOff };

struct LimitSetting {
  enum class Kind : std::uint8_t { kNone, kBytes, kPercent, kAuto };
  Kind kind = Kind::kNone;
  std::size_t value = 0;  // bytes, or percent of the container's limit or the machine's memory
  // kAuto: somebody asked for it, so files are read for it all the time. Else once, at the first check (Limits::Check).
  bool asked_for = false;
};

// Of a number as tarn_set_memory_limit takes it: SIZE_MAX is none, 0 the container's.
constexpr LimitSetting SoftLimitSetting(std::size_t bytes) {
  if (bytes == SIZE_MAX) return {LimitSetting::Kind::kNone, 0};
  if (bytes == 0) return {LimitSetting::Kind::kAuto, 0, true};
  return {LimitSetting::Kind::kBytes, bytes};
}

// The most of TARN_PROFILE_PREFIX.
inline constexpr std::size_t kMaxPrefixBytes = 200;

// The most of TARN_CHECK_LOG.
inline constexpr std::size_t kMaxLogPathBytes = 255;

// The form of a report of a misuse.
enum class ReportFormat : std::uint8_t { kText, kJson };

// The parts of TARN_CHECK, as bits. All but the first are about malloc.
enum CheckPart : std::uint32_t {
  kCheckPools = 1,        // pools, arenas and heaps
  kCheckFree = 2,         // frees and other calls; implied by the others
  kCheckBounds = 4,       // bytes behind and in front of objects
  kCheckFill = 8,         // fills what is allocated and freed
  kCheckQuarantine = 16,  // keeps what is freed for a while, and looks for writes to it
  kCheckLeaks = 32,       // reports what is live at the end
  kCheckGuard = 64,       // gives each object pages of its own
  kCheckMismatch = 128,   // malloc against delete, new against delete[]
};
inline constexpr std::uint32_t kCheckMalloc = 254;
// The parts that `on` stands for.
inline constexpr std::uint32_t kCheckOn = kCheckPools | kCheckFree | kCheckBounds | kCheckFill | kCheckQuarantine;

// All zero until the process heap starts: it is a part of that, which has to be zero (heap/process_heap.h).
struct Options {
  Preset preset;
  bool verbose;
  bool stats;
  bool strict;
  ModeRequest mode;
  // Per slab. In the thread mode a slab gets a part of it (see kThreadBudgetDivisor in life/start.cc).
  std::size_t cpu_cache_bytes;
  std::size_t profile_rate_bytes;
  // Points into the environment, which the program may change: a part that keeps it copies it.
  std::string_view profile_prefix;
  bool profile_at_exit;
  int profile_signal;  // 0: none
  std::size_t profile_growth_bytes;
  unsigned profile_limit_percent;  // 0: none
  BackgroundSetting background;
  std::uint32_t release_delay_ms;
  bool huge_pages;
  std::uint32_t check;  // CheckPart
  std::uint32_t check_frames;
  std::size_t check_quarantine_bytes;
  std::string_view check_log;
  ReportFormat check_format;
  bool check_continue;
  bool harden;
  std::size_t harden_quarantine_bytes;
  std::uint32_t guard_rate;
  std::uint32_t guard_objects;
  bool guard_signal;
  std::uint32_t pool_objects;
  bool trace_scavenge;
  LimitSetting memory_limit;
  LimitSetting hard_limit;
  // Where each setting comes from: bit i is that of the setting which stands in kSettings as number i. The one that
  // counts most is the last that has the bit.
  std::uint32_t from_preset;
  std::uint32_t from_environment;
  std::uint32_t from_program;
};

}  // namespace tarn
