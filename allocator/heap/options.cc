// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/options.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <string_view>

#include "allocator/base/attributes.h"
#include "allocator/base/text.h"
#include "allocator/heap/profile_dumps.h"
#include "allocator/os/signals.h"

namespace tarn {

namespace {

constexpr std::string_view kPrefix = "TARN_";
constexpr std::string_view kTestPrefix = "TARN_TEST_";
// The largest budget of a slab: its slots take no more.
constexpr std::uint64_t kMaxCpuCacheBytes = std::uint64_t{1} << 40;

// Each of the functions below is called by many entries of the table: merged into all of them, they would fill pages
// that every process has to fault in.
TARN_COLD bool ParseSwitch(std::string_view value, bool* result) {
  for (std::string_view on : {"on", "1", "yes", "true"}) {
    if (value == on) return *result = true;
  }
  for (std::string_view off : {"off", "0", "no", "false"}) {
    if (value == off) {
      *result = false;
      return true;
    }
  }
  return false;
}

TARN_COLD bool ParseBytes(std::string_view value, std::size_t* result, std::uint64_t most = kMaxCpuCacheBytes) {
  std::uint64_t number = 0;
  std::size_t digits = 0;
  while (digits < value.size() && value[digits] >= '0' && value[digits] <= '9') {
    if (number > most) return false;
    number = number * 10 + static_cast<std::uint64_t>(value[digits++] - '0');
  }
  if (digits == 0) return false;
  const std::string_view unit(value.data() + digits, value.size() - digits);
  struct Unit {
    std::string_view name;
    int shift;
  };
  for (const Unit known :
       {Unit{"", 0}, Unit{"B", 0}, Unit{"KiB", 10}, Unit{"MiB", 20}, Unit{"GiB", 30}, Unit{"TiB", 40}}) {
    if (unit != known.name) continue;
    if (number > most >> known.shift) return false;
    *result = static_cast<std::size_t>(number << known.shift);
    return true;
  }
  return false;
}

bool ParseMode(std::string_view value, ModeRequest* result) {
  if (value == "auto") return *result = ModeRequest::kAuto, true;
  if (value == "cpu") return *result = ModeRequest::kCpu, true;
  if (value == "thread") return *result = ModeRequest::kThread, true;
  return false;
}

bool ParseBackground(std::string_view value, BackgroundSetting* result) {
  bool on = false;
  if (value == "auto") return *result = BackgroundSetting::kAuto, true;
  if (!ParseSwitch(value, &on)) return false;
  *result = on ? BackgroundSetting::kOn : BackgroundSetting::kOff;
  return true;
}

// `none` and `off` are the same: no limit.
TARN_COLD bool ParseLimit(std::string_view value, LimitSetting* result, bool may_be_auto) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 46;
  if (value == "auto" && may_be_auto) {
    *result = {LimitSetting::Kind::kAuto, 0, true};
    return true;
  }
  if (value == "off" || value == "none") {
    *result = {LimitSetting::Kind::kNone, 0};
    return true;
  }
  std::size_t number = 0;
  if (value.ends_with('%')) {
    value.remove_suffix(1);
    if (value.empty() || value.find_first_not_of("0123456789") != std::string_view::npos) return false;
    if (!ParseBytes(value, &number, 100) || number == 0 || number > 100) return false;
    *result = {LimitSetting::Kind::kPercent, number};
    return true;
  }
  if (!ParseBytes(value, &number, kMostBytes) || number == 0) return false;
  *result = {LimitSetting::Kind::kBytes, number};
  return true;
}

// How long memory stays. Below the least the scavenger would do little else; the most is what the longer window of
// pages/demand.h goes to.
bool ParseDelay(std::string_view value, std::uint32_t* result) {
  constexpr std::size_t kLeastMs = 100;
  constexpr std::size_t kMostMs = Demand::kLongestKeptMs;
  std::size_t unit_ms = 1000;
  if (value.ends_with("ms")) {
    unit_ms = 1;
    value.remove_suffix(1);
  }
  if (!value.ends_with(unit_ms == 1 ? 'm' : 's')) return false;
  value.remove_suffix(1);
  std::size_t number = 0;
  if (value.find_first_not_of("0123456789") != std::string_view::npos || !ParseBytes(value, &number, kMostMs)) {
    return false;
  }
  if (number > kMostMs / unit_ms || number * unit_ms < kLeastMs) return false;
  *result = static_cast<std::uint32_t>(number * unit_ms);
  return true;
}

bool ParsePoolObjects(std::string_view value, std::uint32_t* result) {
  constexpr std::size_t kMostObjects = std::size_t{1} << 20;
  std::size_t number = 0;
  if (value.find_first_not_of("0123456789") != std::string_view::npos || !ParseBytes(value, &number, kMostObjects) ||
      number == 0) {
    return false;
  }
  *result = static_cast<std::uint32_t>(number);
  return true;
}

bool ParseTrace(std::string_view value, Options* options) {
  if (value == "scavenge") return options->trace_scavenge = true;
  bool on = true;
  if (!ParseSwitch(value, &on) || on) return false;
  options->trace_scavenge = false;
  return true;
}

bool ParsePrefix(std::string_view value, std::string_view* result) {
  if (value.empty() || value.size() > ProfileDumps::kMaxPrefixBytes) return false;
  *result = value;
  return true;
}

bool ParseSignal(std::string_view value, int* result) {
  if (value == "off") {
    *result = 0;
    return true;
  }
  const int number = SignalNumber(value);
  if (number != 0) *result = number;
  return number != 0;
}

// Below this every other slow path of a growing program would write a file. Chosen.
constexpr std::size_t kLeastGrowthBytes = std::size_t{1} << 20;

bool ParseGrowth(std::string_view value, std::size_t* result) {
  std::size_t bytes = 0;
  if (value != "off" && (!ParseBytes(value, &bytes) || (bytes != 0 && bytes < kLeastGrowthBytes))) return false;
  *result = bytes;
  return true;
}

bool ParseLimitShare(std::string_view value, unsigned* result) {
  constexpr unsigned kUsualPercent = 90;
  bool on = false;
  if (ParseSwitch(value, &on)) {
    *result = on ? kUsualPercent : 0;
    return true;
  }
  LimitSetting share;
  if (!value.ends_with('%') || !ParseLimit(value, &share, false)) return false;
  *result = static_cast<unsigned>(share.value);
  return true;
}

// The values as ParseOptions takes them.
using Value = Text<40>;

TARN_COLD void PrintSwitch(bool value, Value* text) { *text << (value ? "on" : "off"); }

TARN_COLD void PrintBytes(std::uint64_t bytes, Value* text) {
  struct Unit {
    const char* name;
    int shift;
  };
  for (const Unit unit : {Unit{"TiB", 40}, Unit{"GiB", 30}, Unit{"MiB", 20}, Unit{"KiB", 10}}) {
    if (bytes == 0 || bytes % (std::uint64_t{1} << unit.shift) != 0) continue;
    *text << (bytes >> unit.shift) << unit.name;
    return;
  }
  *text << bytes;
}

void PrintMode(ModeRequest mode, Value* text) {
  *text << (mode == ModeRequest::kAuto ? "auto" : mode == ModeRequest::kCpu ? "cpu" : "thread");
}

TARN_COLD void PrintLimit(const LimitSetting& limit, Value* text) {
  switch (limit.kind) {
    case LimitSetting::Kind::kNone:
      *text << "off";
      break;
    case LimitSetting::Kind::kAuto:
      *text << "auto";
      break;
    case LimitSetting::Kind::kPercent:
      *text << std::uint64_t{limit.value} << "%";
      break;
    case LimitSetting::Kind::kBytes:
      PrintBytes(limit.value, text);
      break;
  }
}

void PrintSignal(int number, Value* text) {
  const std::string_view name = SignalName(number);
  if (number == 0) {
    *text << "off";
  } else if (name.empty()) {
    *text << number;
  } else {
    *text << name;
  }
}

TARN_COLD void PrintDelay(std::uint32_t milliseconds, Value* text) {
  if (milliseconds % 1000 == 0) {
    *text << milliseconds / 1000 << "s";
  } else {
    *text << milliseconds << "ms";
  }
}

// At once, or only at the start: what a preset can change while the program runs.
enum class Changes : bool { kNever, kAnyTime };

struct Setting {
  std::string_view name;
  Changes changes;
  std::string_view expected;
  bool (*parse)(std::string_view value, Options* options);
  void (*print)(const Options& options, Value* text);
};

constexpr Setting kSettings[] = {
    {"TARN_PRESET", Changes::kNever, "production, staging, development or off",
     [](std::string_view v, Options* o) { return FindPreset(v, &o->preset); },
     [](const Options& o, Value* text) { *text << PresetName(o.preset); }},
    {"TARN_VERBOSE", Changes::kNever, "on or off",
     [](std::string_view v, Options* o) { return ParseSwitch(v, &o->verbose); },
     [](const Options& o, Value* text) { PrintSwitch(o.verbose, text); }},
    {"TARN_STATS", Changes::kAnyTime, "on or off",
     [](std::string_view v, Options* o) { return ParseSwitch(v, &o->stats); },
     [](const Options& o, Value* text) { PrintSwitch(o.stats, text); }},
    {"TARN_STRICT", Changes::kNever, "on or off",
     [](std::string_view v, Options* o) { return ParseSwitch(v, &o->strict); },
     [](const Options& o, Value* text) { PrintSwitch(o.strict, text); }},
    {"TARN_MODE", Changes::kNever, "auto, cpu or thread",
     [](std::string_view v, Options* o) { return ParseMode(v, &o->mode); },
     [](const Options& o, Value* text) { PrintMode(o.mode, text); }},
    {"TARN_CPU_CACHE", Changes::kNever, "a number of bytes such as 1536KiB, at most 1TiB",
     [](std::string_view v, Options* o) { return ParseBytes(v, &o->cpu_cache_bytes); },
     [](const Options& o, Value* text) { PrintBytes(o.cpu_cache_bytes, text); }},
    {"TARN_PROFILE_RATE", Changes::kAnyTime, "a number of bytes such as 512KiB, or 0",
     [](std::string_view v, Options* o) { return ParseBytes(v, &o->profile_rate_bytes); },
     [](const Options& o, Value* text) { PrintBytes(o.profile_rate_bytes, text); }},
    {"TARN_PROFILE_PREFIX", Changes::kNever, "the beginning of a file's name, of at most 200 bytes",
     [](std::string_view v, Options* o) { return ParsePrefix(v, &o->profile_prefix); },
     [](const Options& o, Value* text) { *text << o.profile_prefix; }},
    {"TARN_PROFILE_AT_EXIT", Changes::kNever, "on or off",
     [](std::string_view v, Options* o) { return ParseSwitch(v, &o->profile_at_exit); },
     [](const Options& o, Value* text) { PrintSwitch(o.profile_at_exit, text); }},
    {"TARN_PROFILE_SIGNAL", Changes::kNever, "USR1, USR2, HUP, PROF, a number of 34 to 64, or off",
     [](std::string_view v, Options* o) { return ParseSignal(v, &o->profile_signal); },
     [](const Options& o, Value* text) { PrintSignal(o.profile_signal, text); }},
    {"TARN_PROFILE_GROWTH", Changes::kNever, "a number of bytes such as 64MiB, at least 1MiB, or 0",
     [](std::string_view v, Options* o) { return ParseGrowth(v, &o->profile_growth_bytes); },
     [](const Options& o, Value* text) { PrintBytes(o.profile_growth_bytes, text); }},
    {"TARN_PROFILE_AT_LIMIT", Changes::kAnyTime, "a share such as 90%, on or off",
     [](std::string_view v, Options* o) { return ParseLimitShare(v, &o->profile_limit_percent); },
     [](const Options& o, Value* text) {
       o.profile_limit_percent == 0 ? *text << "off" : *text << o.profile_limit_percent << "%";
     }},
    {"TARN_MEMORY_LIMIT", Changes::kAnyTime, "a number of bytes such as 512MiB, a share such as 80%, auto or off",
     [](std::string_view v, Options* o) { return ParseLimit(v, &o->memory_limit, true); },
     [](const Options& o, Value* text) { PrintLimit(o.memory_limit, text); }},
    {"TARN_HARD_LIMIT", Changes::kNever, "a number of bytes such as 2GiB, a share such as 90%, or off",
     [](std::string_view v, Options* o) { return ParseLimit(v, &o->hard_limit, false); },
     [](const Options& o, Value* text) { PrintLimit(o.hard_limit, text); }},
    {"TARN_BACKGROUND", Changes::kNever, "auto, on or off",
     [](std::string_view v, Options* o) { return ParseBackground(v, &o->background); },
     [](const Options& o, Value* text) {
       *text << (o.background == BackgroundSetting::kAuto ? "auto"
                 : o.background == BackgroundSetting::kOn ? "on"
                                                          : "off");
     }},
    {"TARN_RELEASE_DELAY", Changes::kAnyTime, "a time such as 1500ms or 5s, from 100ms to 60s",
     [](std::string_view v, Options* o) { return ParseDelay(v, &o->release_delay_ms); },
     [](const Options& o, Value* text) { PrintDelay(o.release_delay_ms, text); }},
    {"TARN_HUGE_PAGES", Changes::kNever, "on or off",
     [](std::string_view v, Options* o) { return ParseSwitch(v, &o->huge_pages); },
     [](const Options& o, Value* text) { PrintSwitch(o.huge_pages, text); }},
    {"TARN_CHECK", Changes::kAnyTime, "on or off",
     [](std::string_view v, Options* o) { return ParseSwitch(v, &o->check); },
     [](const Options& o, Value* text) { PrintSwitch(o.check, text); }},
    {"TARN_POOL_OBJECTS", Changes::kAnyTime, "a number of objects such as 1024, at most 1048576",
     [](std::string_view v, Options* o) { return ParsePoolObjects(v, &o->pool_objects); },
     [](const Options& o, Value* text) { *text << o.pool_objects; }},
    {"TARN_TRACE", Changes::kNever, "scavenge or off", [](std::string_view v, Options* o) { return ParseTrace(v, o); },
     [](const Options& o, Value* text) { *text << (o.trace_scavenge ? "scavenge" : "off"); }},
};
static_assert(std::size(kSettings) == kSettingCount);

std::uint32_t Bit(const Setting* setting) { return std::uint32_t{1} << (setting - kSettings); }

// Damerau's distance between short names: insertions, deletions, replacements, swaps of neighbours.
std::size_t EditDistance(std::string_view a, std::string_view b) {
  constexpr std::size_t kLongest = 40;
  if (a.size() > kLongest || b.size() > kLongest) return kLongest;
  std::size_t rows[3][kLongest + 1];
  for (std::size_t j = 0; j <= b.size(); ++j) rows[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t* row = rows[i % 3];
    const std::size_t* above = rows[(i + 2) % 3];
    const std::size_t* two_above = rows[(i + 1) % 3];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], two_above[j - 2] + 1);
    }
  }
  return rows[a.size() % 3][b.size()];
}

std::string_view NearestName(std::string_view name) {
  // Further away than this it is no misspelling.
  std::size_t best_distance = 4;
  std::string_view best;
  for (const Setting& setting : kSettings) {
    const std::size_t distance = EditDistance(name, setting.name);
    if (distance < best_distance) {
      best_distance = distance;
      best = setting.name;
    }
  }
  return best;
}

// Sets what the entries say; `given` gets the bits of those that it took.
int ParseEntries(const char* const* entries, Options* options, std::uint32_t* given, Complain complain) {
  int complaints = 0;
  for (; entries != nullptr && *entries != nullptr; ++entries) {
    const std::string_view entry = *entries;
    if (!entry.starts_with(kPrefix) || entry.starts_with(kTestPrefix)) continue;
    // Not by substr, which may throw.
    const std::size_t name_length = std::min(entry.find('='), entry.size());
    const std::string_view name(entry.data(), name_length);
    std::string_view value(entry.data() + name_length, entry.size() - name_length);
    if (!value.empty()) value.remove_prefix(1);
    const Setting* setting = std::ranges::find(kSettings, name, &Setting::name);
    Text<256> line;
    if (setting == std::end(kSettings)) {
      line << "tarn: unknown option " << name;
      const std::string_view nearest = NearestName(name);
      if (!nearest.empty()) line << "; did you mean " << nearest << "?";
    } else if (setting->parse(value, options)) {
      *given |= Bit(setting);
      continue;
    } else {
      line << "tarn: " << name << "=" << value << " cannot be used: expected " << setting->expected;
    }
    line << " (TARN_STRICT=1 makes this fatal)";
    complain(line.view().data(), line.view().size());
    ++complaints;
  }
  return complaints;
}

// A preset has no name or value that is wrong (tests/heap/options_test.cc).
void ApplyPreset(Options* options) {
  ParseEntries(PresetEntries(options->preset), options, &options->from_preset, nullptr);
}

void Describe(const Setting& setting, const Options& options, tarn_snapshot_option* option) {
  *option = {};
  Value value;
  setting.print(options, &value);
  Value default_value;
  setting.print(kDefaultOptions, &default_value);
  setting.name.copy(option->name, sizeof option->name - 1);
  value.view().copy(option->value, sizeof option->value - 1);
  default_value.view().copy(option->default_value, sizeof option->default_value - 1);
  const std::uint32_t bit = Bit(&setting);
  option->source = (options.from_program & bit) != 0       ? TARN_SOURCE_API
                   : (options.from_environment & bit) != 0 ? TARN_SOURCE_ENVIRONMENT
                   : (options.from_preset & bit) != 0      ? TARN_SOURCE_PRESET
                                                           : TARN_SOURCE_DEFAULT;
}

}  // namespace

int ParseOptions(const char* const* environment, Options* options, Complain complain) {
  // The preset first, wherever it stands: what is set by name comes before it.
  for (const char* const* entry = environment; entry != nullptr && *entry != nullptr; ++entry) {
    constexpr std::string_view kPreset = "TARN_PRESET=";
    std::string_view text = *entry;
    if (!text.starts_with(kPreset)) continue;
    text.remove_prefix(kPreset.size());
    FindPreset(text, &options->preset);
  }
  ApplyPreset(options);
  return ParseEntries(environment, options, &options->from_environment, complain);
}

void ChangePreset(Preset preset, Options* options) {
  Options fresh = kDefaultOptions;
  fresh.preset = preset;
  ApplyPreset(&fresh);
  options->preset = preset;
  for (const Setting& setting : kSettings) {
    const std::uint32_t bit = Bit(&setting);
    if (setting.changes == Changes::kNever || ((options->from_environment | options->from_program) & bit) != 0)
      continue;
    Value value;
    setting.print(fresh, &value);
    setting.parse(value.view(), options);
    options->from_preset = (options->from_preset & ~bit) | (fresh.from_preset & bit);
  }
}

void DescribeOptions(const Options& options, DescribedOptions& described) {
  for (std::size_t i = 0; i < kSettingCount; ++i) Describe(kSettings[i], options, &described[i]);
}

void NoteProgramSetting(std::string_view name, Options* options, DescribedOptions& described) {
  const Setting* setting = std::ranges::find(kSettings, name, &Setting::name);
  options->from_program |= Bit(setting);
  Describe(*setting, *options, &described[setting - kSettings]);
}

}  // namespace tarn
