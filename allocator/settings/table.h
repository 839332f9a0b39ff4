// SPDX-License-Identifier: Apache-2.0
//
// The table of settings: what there is to set, how a value is written, what it means.
//
// A new setting is a field of Options and a row here. The parser and its complaints (settings.cc), `tarn options` and
// the manual page libtarn(7) (generate.cc) come from the rows. tools/check_settings compares the tables in README.md
// and docs/ with this one, and writes them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <type_traits>
#include <utility>

#include "allocator/pages/demand.h"
#include "allocator/settings/options.h"

namespace tarn {

// How a value is written (base/quantities.h has the numbers).
enum class SettingKind : std::uint8_t {
  kSwitch,   // on, off
  kChoice,   // one of the words, which stands for its place among them
  kParts,    // off, on, or some of the words with commas between them, each of which is a bit
  kCount,    // a number
  kBytes,    // a number of bytes
  kTime,     // a number of milliseconds or seconds
  kPercent,  // a share
  kLimit,    // a number of bytes, a share, or a word
  kSignal,   // the name of a signal, or its number
  kPath,     // a text
};

// A value as read or as printed: which part of it counts depends on the kind.
struct SettingValue {
  std::uint64_t number = 0;
  LimitSetting limit;
  std::string_view text;
};

// How a value gets into the Options and out of them.
struct SettingField {
  void (*store)(const SettingValue& value, Options* options);
  SettingValue (*load)(const Options& options);
};

template <auto kMember>
struct FieldOf {
  using Type = std::remove_cvref_t<decltype(std::declval<Options&>().*kMember)>;
  static constexpr bool kIsLimit = std::is_same_v<Type, LimitSetting>;
  static constexpr bool kIsText = std::is_same_v<Type, std::string_view>;

  static constexpr void Store(const SettingValue& value, Options* options) {
    if constexpr (kIsLimit) {
      options->*kMember = value.limit;
    } else if constexpr (kIsText) {
      options->*kMember = value.text;
    } else {
      options->*kMember = static_cast<Type>(value.number);
    }
  }
  static constexpr SettingValue Load(const Options& options) {
    if constexpr (kIsLimit) {
      return {.number = 0, .limit = options.*kMember, .text = {}};
    } else if constexpr (kIsText) {
      return {.number = 0, .limit = {}, .text = options.*kMember};
    } else {
      return {.number = static_cast<std::uint64_t>(options.*kMember), .limit = {}, .text = {}};
    }
  }
};
template <auto kMember>
inline constexpr SettingField kFieldOf = {&FieldOf<kMember>::Store, &FieldOf<kMember>::Load};

// The presets that set something, in the order of the enumeration.
inline constexpr std::size_t kPresetCount = 3;

struct Setting {
  const char* name;
  SettingKind kind;
  SettingField field;
  // The words that are taken, besides numbers: "auto|cpu|thread". Of a number's words, off is 0.
  const char* words = "";
  // on is also 1, yes, true, and off is also 0, no, false.
  bool synonyms = false;
  // Of a number, in bytes or milliseconds, both included; of a text, the bytes of its length. 0 is below any bound.
  std::uint64_t least = 0;
  std::uint64_t most = 0;
  bool or_zero = false;
  // A preset can change it while the program runs.
  bool changes = false;
  const char* default_value;
  // In the presets; empty where they leave it as it is.
  char presets[kPresetCount][8] = {};
  // Completes "expected", in complaints and documents. Names the words and the bounds.
  const char* expected;
  // The explanation in documents. `code` stands between backticks.
  const char* text;
  // The page in docs/ that has more, without .md.
  const char* page = "";
};

// Larger than any memory that a cache, a sample or a heap's growth may mean.
inline constexpr std::uint64_t kMostSettingBytes = std::uint64_t{1} << 40;
inline constexpr std::uint64_t kMostLimitBytes = std::uint64_t{1} << 46;

inline constexpr Setting kSettings[] = {
    {
        .name = "TARN_PRESET",
        .kind = SettingKind::kChoice,
        .field = kFieldOf<&Options::preset>,
        .words = "off|production|staging|development",
        .default_value = "off",
        .expected = "production, staging, development or off",
        .text = "a set of the settings below, for a stage of a program's life",
    },
    {
        .name = "TARN_VERBOSE",
        .kind = SettingKind::kSwitch,
        .field = kFieldOf<&Options::verbose>,
        .words = "off|on",
        .synonyms = true,
        .default_value = "off",
        .presets = {"on", "on", "on"},
        .expected = "on or off",
        .text = "a line at the start: version, program, who owns the caches and why, or whose malloc is called "
                "instead of this one",
    },
    {
        .name = "TARN_STATS",
        .kind = SettingKind::kSwitch,
        .field = kFieldOf<&Options::stats>,
        .words = "off|on",
        .synonyms = true,
        .changes = true,
        .default_value = "off",
        .presets = {"off", "off", "on"},
        .expected = "on or off",
        .text = "statistics on stderr at the process's end",
        .page = "statistics-and-profiles",
    },
    {
        .name = "TARN_STRICT",
        .kind = SettingKind::kSwitch,
        .field = kFieldOf<&Options::strict>,
        .words = "off|on",
        .synonyms = true,
        .default_value = "off",
        .presets = {"off", "on", "on"},
        .expected = "on or off",
        .text = "a wrong setting ends the process with exit code 78",
    },
    {
        .name = "TARN_MODE",
        .kind = SettingKind::kChoice,
        .field = kFieldOf<&Options::mode>,
        .words = "auto|cpu|thread",
        .default_value = "auto",
        .expected = "auto, cpu or thread",
        .text = "who owns the caches. `cpu` prints a line where it is unavailable, and goes on with `thread`",
        .page = "design",
    },
    {
        .name = "TARN_CPU_CACHE",
        .kind = SettingKind::kBytes,
        .field = kFieldOf<&Options::cpu_cache_bytes>,
        .most = kMostSettingBytes,
        .default_value = "1536KiB",
        .expected = "a number of bytes such as 1536KiB, at most 1TiB",
        .text = "the most that one CPU's cache may hold; a thread's, in the mode `thread`, gets half of it, beyond the "
                "sixteenth an eighth. 0: no caches",
    },
    {
        .name = "TARN_PROFILE_RATE",
        .kind = SettingKind::kBytes,
        .field = kFieldOf<&Options::profile_rate_bytes>,
        .most = kMostSettingBytes,
        .changes = true,
        .default_value = "512KiB",
        .presets = {"512KiB", "256KiB", "64KiB"},
        .expected = "a number of bytes such as 512KiB, or 0",
        .text = "the mean distance of the heap profile's samples; 0: none are taken",
        .page = "statistics-and-profiles",
    },
    {
        .name = "TARN_PROFILE_PREFIX",
        .kind = SettingKind::kPath,
        .field = kFieldOf<&Options::profile_prefix>,
        .least = 1,
        .most = kMaxPrefixBytes,
        .default_value = "tarn",
        .expected = "the beginning of a file's name, of at most 200 bytes",
        .text = "the files of the next four are called `PREFIX.PID.N.REASON.pb`",
    },
    {
        .name = "TARN_PROFILE_AT_EXIT",
        .kind = SettingKind::kSwitch,
        .field = kFieldOf<&Options::profile_at_exit>,
        .words = "off|on",
        .synonyms = true,
        .default_value = "off",
        .expected = "on or off",
        .text = "a heap profile is written at the process's end",
    },
    {
        .name = "TARN_PROFILE_SIGNAL",
        .kind = SettingKind::kSignal,
        .field = kFieldOf<&Options::profile_signal>,
        .words = "off",
        .default_value = "off",
        .expected = "USR1, USR2, HUP, PROF, a number of 34 to 64, or off",
        .text = "a heap profile is written when this signal comes, if the program does not use it",
    },
    {
        .name = "TARN_PROFILE_GROWTH",
        .kind = SettingKind::kBytes,
        .field = kFieldOf<&Options::profile_growth_bytes>,
        .words = "off",
        // Below this every other slow path of a growing program would write a file. Chosen.
        .least = std::uint64_t{1} << 20,
        .most = kMostSettingBytes,
        .or_zero = true,
        .default_value = "0",
        .expected = "a number of bytes such as 64MiB, at least 1MiB, or 0",
        .text = "a heap profile is written each time the heap's peak has grown by this much; 0: never",
    },
    {
        .name = "TARN_PROFILE_AT_LIMIT",
        .kind = SettingKind::kPercent,
        .field = kFieldOf<&Options::profile_limit_percent>,
        .words = "off|on",
        .synonyms = true,
        .changes = true,
        .default_value = "off",
        .presets = {"off", "90%", "90%"},
        .expected = "a share such as 90%, on or off",
        .text = "a heap profile is written when memory comes to this share of the limit; on: 90%",
    },
    {
        .name = "TARN_MEMORY_LIMIT",
        .kind = SettingKind::kLimit,
        .field = kFieldOf<&Options::memory_limit>,
        .words = "off|none|auto",
        .least = 1,
        .most = kMostLimitBytes,
        .changes = true,
        .default_value = "auto",
        .presets = {"auto", "80%", "50%"},
        .expected = "a number of bytes such as 512MiB, a share such as 80%, auto or off",
        .text = "resident memory to stay below, by giving free memory back. `auto` follows the container",
        .page = "memory-return",
    },
    {
        .name = "TARN_HARD_LIMIT",
        .kind = SettingKind::kLimit,
        .field = kFieldOf<&Options::hard_limit>,
        .words = "off|none",
        .least = 1,
        .most = kMostLimitBytes,
        .default_value = "off",
        .expected = "a number of bytes such as 2GiB, a share such as 90%, or off",
        .text = "memory beyond which allocations fail",
        .page = "memory-return",
    },
    {
        .name = "TARN_BACKGROUND",
        .kind = SettingKind::kChoice,
        .field = kFieldOf<&Options::background>,
        .words = "auto|on|off",
        .synonyms = true,
        .default_value = "auto",
        .expected = "auto, on or off",
        .text = "on: in a program with threads, background threads may exist: one that gives memory back and one that "
                "empties idle pools. off, auto: none",
        .page = "memory-return",
    },
    {
        .name = "TARN_RELEASE_DELAY",
        .kind = SettingKind::kTime,
        .field = kFieldOf<&Options::release_delay_ms>,
        // Below the least the scavenger would do little else; the most is that of the longer window of pages/demand.h.
        .least = 100,
        .most = Demand::kLongestKeptMs,
        .changes = true,
        .default_value = "1500ms",
        .presets = {"5s", "1500ms", "500ms"},
        .expected = "a time such as 1500ms or 5s, from 100ms to 60s",
        .text =
            "how long memory stays that was in use, before it is given back. Up to 1500ms, the free that ends a peak "
            "gives back at once what a burst is not likely to need",
        .page = "memory-return",
    },
    {
        .name = "TARN_HUGE_PAGES",
        .kind = SettingKind::kSwitch,
        .field = kFieldOf<&Options::huge_pages>,
        .words = "off|on",
        .synonyms = true,
        .default_value = "on",
        .expected = "on or off",
        .text = "transparent huge pages behind large heaps and large objects, unless the system's setting is `never`",
        .page = "memory-return",
    },
    {
        .name = "TARN_CHECK",
        .kind = SettingKind::kParts,
        .field = kFieldOf<&Options::check>,
        .words = "pools|free|bounds|fill|quarantine|leaks|guard|mismatch",
        .synonyms = true,
        .changes = true,
        .default_value = "off",
        .presets = {"off", "pools", "pools"},
        .expected = "on, off, or some of pools, free, bounds, fill, quarantine, leaks, guard and mismatch, with commas",
        .text = "the checked mode: misuse is seen at the call or at the object's next event; slow. `pools`: of all "
                "pools, arenas and heaps; the others: of malloc, from the start only. on: the first five. Frees by a "
                "wrong size are noted",
        .page = "misuse",
    },
    {
        .name = "TARN_CHECK_QUARANTINE",
        .kind = SettingKind::kBytes,
        .field = kFieldOf<&Options::check_quarantine_bytes>,
        .most = kMostSettingBytes,
        .default_value = "16MiB",
        .expected = "a number of bytes such as 16MiB, or 0",
        .text = "the most memory of freed objects that malloc's checked mode keeps, to see writes to it",
        .page = "misuse",
    },
    {
        .name = "TARN_CHECK_FRAMES",
        .kind = SettingKind::kCount,
        .field = kFieldOf<&Options::check_frames>,
        .most = 16,
        .default_value = "12",
        .expected = "a number of frames, at most 16",
        .text = "the depth of the stacks that malloc's checked mode keeps of each allocation and free; 0: none",
        .page = "misuse",
    },
    {
        .name = "TARN_CHECK_LOG",
        .kind = SettingKind::kPath,
        .field = kFieldOf<&Options::check_log>,
        .least = 1,
        .most = kMaxLogPathBytes,
        .default_value = "stderr",
        .expected = "the name of a file, of at most 255 bytes, or stderr",
        .text = "where the report of a misuse goes, behind its first line, which also goes to stderr. Reports are "
                "appended; `%p` stands for the process's id",
        .page = "misuse",
    },
    {
        .name = "TARN_CHECK_FORMAT",
        .kind = SettingKind::kChoice,
        .field = kFieldOf<&Options::check_format>,
        .words = "text|json",
        .default_value = "text",
        .expected = "text or json",
        .text = "the form of the report of a misuse. `json`: one object in one line",
        .page = "misuse",
    },
    {
        .name = "TARN_CHECK_CONTINUE",
        .kind = SettingKind::kSwitch,
        .field = kFieldOf<&Options::check_continue>,
        .words = "off|on",
        .synonyms = true,
        .default_value = "off",
        .expected = "on or off",
        .text = "the process goes on after the report of a misuse that leaves tarn's own state whole; off: it aborts",
        .page = "misuse",
    },
    {
        .name = "TARN_HARDEN",
        .kind = SettingKind::kSwitch,
        .field = kFieldOf<&Options::harden>,
        .words = "off|on",
        .synonyms = true,
        .default_value = "off",
        .expected = "on or off",
        .text = "the hardened mode, from the start only: objects at random places, freed memory zeroed and kept from "
                "reuse for a while, second frees seen at the call; slower. The checked mode of malloc comes before it",
        .page = "misuse",
    },
    {
        .name = "TARN_HARDEN_QUARANTINE",
        .kind = SettingKind::kBytes,
        .field = kFieldOf<&Options::harden_quarantine_bytes>,
        .most = std::uint64_t{16} << 20,
        .default_value = "128KiB",
        .expected = "a number of bytes such as 128KiB, at most 16MiB, or 0",
        .text = "the most freed memory of each size class that the hardened mode keeps from reuse; 0: none, and of "
                "large objects neither",
        .page = "misuse",
    },
    {
        .name = "TARN_GUARD_RATE",
        .kind = SettingKind::kCount,
        .field = kFieldOf<&Options::guard_rate>,
        .words = "off",
        .most = std::uint64_t{1} << 20,
        .default_value = "4",
        .expected = "a number of samples such as 4, at most 1048576, or off",
        .text = "one in N samples of the heap profile is guarded: it gets pages of its own between inaccessible "
                "ones. 1: all are, whatever it costs; off: none",
        .page = "misuse",
    },
    {
        .name = "TARN_GUARD_OBJECTS",
        .kind = SettingKind::kCount,
        .field = kFieldOf<&Options::guard_objects>,
        .least = 8,
        .most = 4096,
        .default_value = "64",
        .expected = "a number of objects such as 64, from 8 to 4096",
        .text = "how many objects are guarded at most at one time, live ones and freed ones",
        .page = "misuse",
    },
    {
        .name = "TARN_GUARD_SIGNAL",
        .kind = SettingKind::kSwitch,
        .field = kFieldOf<&Options::guard_signal>,
        .words = "off|on",
        .synonyms = true,
        .default_value = "on",
        .expected = "on or off",
        .text = "a handler of SIGSEGV reports faults at guarded objects, and passes on all others; off: such a fault "
                "ends the process by SIGSEGV, without a report",
        .page = "misuse",
    },
    {
        .name = "TARN_POOL_OBJECTS",
        .kind = SettingKind::kCount,
        .field = kFieldOf<&Options::pool_objects>,
        .least = 1,
        .most = std::uint64_t{1} << 20,
        .changes = true,
        .default_value = "1024",
        .presets = {"4096", "1024", "128"},
        .expected = "a number of objects such as 1024, at most 1048576",
        .text = "what a `tarn::Pool` keeps at most, if it does not say itself",
        .page = "pools-and-arenas",
    },
    {
        .name = "TARN_TRACE",
        .kind = SettingKind::kChoice,
        .field = kFieldOf<&Options::trace_scavenge>,
        .words = "off|scavenge",
        .synonyms = true,
        .default_value = "off",
        .expected = "scavenge or off",
        .text = "a line on stderr each time that free memory was given back, by a thread of the program or by tarn's",
        .page = "memory-return",
    },
};
inline constexpr std::size_t kSettingCount = std::size(kSettings);

// Of TARN_PRESET; in the order of the enumeration.
inline constexpr char kPresetNames[kPresetCount + 1][12] = {"off", "production", "staging", "development"};

}  // namespace tarn
