// SPDX-License-Identifier: Apache-2.0
//
// The settings: every value, and what is said of those that cannot be used.

#include "allocator/settings/settings.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tarn {
namespace {

std::vector<std::string>* complaints;

// The complaints about the entries; the options afterwards are in *options.
std::vector<std::string> Parse(std::vector<const char*> entries, Options* options) {
  entries.push_back(nullptr);
  std::vector<std::string> said;
  complaints = &said;
  *options = kDefaultOptions;
  const int count = ParseOptions(entries.data(), options,
                                 [](const char* line, std::size_t length) { complaints->emplace_back(line, length); });
  EXPECT_EQ(static_cast<std::size_t>(count), said.size());
  return said;
}
std::vector<std::string> Parse(std::vector<const char*> entries) {
  Options options;
  return Parse(std::move(entries), &options);
}

std::string Sources(const Options& options, std::uint32_t source) {
  DescribedOptions described;
  DescribeOptions(options, described);
  std::string text;
  for (const tarn_snapshot_option& option : described) {
    if (option.source == source) text += std::string(option.name) + "=" + option.value + " ";
  }
  return text;
}

constexpr const char* kStrictHint = " (TARN_STRICT=1 makes this fatal)";

TEST(Options, WithoutAnEnvironmentTheDefaultsStay) {
  Options options = kDefaultOptions;
  EXPECT_EQ(ParseOptions(nullptr, &options, nullptr), 0);
  EXPECT_EQ(Parse({}, &options).size(), 0u);
  EXPECT_FALSE(options.verbose || options.stats || options.strict);
  EXPECT_EQ(options.mode, ModeRequest::kAuto);
  EXPECT_EQ(options.cpu_cache_bytes, kDefaultOptions.cpu_cache_bytes);
}

TEST(Options, PartsAreWordsWithCommas) {
  const struct {
    const char* value;
    std::uint32_t parts;
    const char* printed;
  } values[] = {{"on", kCheckOn, "on"},
                {"true", kCheckOn, "on"},
                {"off", 0, "off"},
                {"0", 0, "off"},
                {"pools", kCheckPools, "pools"},
                {"leaks,free", kCheckFree | kCheckLeaks, "free,leaks"},
                {"guard,guard", kCheckGuard, "guard"},
                {"mismatch", kCheckMismatch, "mismatch"},
                {"pools,free,bounds,fill,quarantine", kCheckOn, "on"}};
  for (const auto& [value, parts, printed] : values) {
    Options options;
    const std::string entry = std::string("TARN_CHECK=") + value;
    EXPECT_EQ(Parse({entry.c_str()}, &options).size(), 0u) << entry;
    EXPECT_EQ(options.check, parts) << entry;
    DescribedOptions described;
    DescribeOptions(options, described);
    for (const tarn_snapshot_option& option : described) {
      if (std::string(option.name) != "TARN_CHECK") continue;
      EXPECT_EQ(std::string(option.value), printed);
    }
  }
  for (const char* value : {"", ",", "free,", ",free", "fre", "free bounds", "free;bounds", "on,leaks", "Free"}) {
    Options options;
    const std::string entry = std::string("TARN_CHECK=") + value;
    EXPECT_EQ(Parse({entry.c_str()}, &options).size(), 1u) << entry;
    EXPECT_EQ(options.check, 0u) << entry;
  }
}

TEST(Options, SwitchesKnowFourWordsEach) {
  struct {
    const char* name;
    bool Options::*member;
  } const switches[] = {
      {"TARN_VERBOSE", &Options::verbose}, {"TARN_STATS", &Options::stats}, {"TARN_STRICT", &Options::strict}};
  for (const auto& option : switches) {
    for (const char* word : {"on", "1", "yes", "true", "off", "0", "no", "false"}) {
      Options options;
      const std::string entry = std::string(option.name) + "=" + word;
      EXPECT_EQ(Parse({entry.c_str()}, &options).size(), 0u) << entry;
      const bool on = std::string("on 1 yes true").find(word) != std::string::npos;
      EXPECT_EQ(options.*option.member, on) << entry;
      // And nothing else changed.
      EXPECT_EQ(int{options.verbose} + int{options.stats} + int{options.strict}, on ? 1 : 0);
    }
    for (const char* word : {"", "ON", "2", "on ", " on", "o", "onn", "enable"}) {
      Options options;
      const std::string entry = std::string(option.name) + "=" + word;
      EXPECT_EQ(Parse({entry.c_str()}, &options),
                std::vector<std::string>{"tarn: " + entry + " cannot be used: expected on or off" + kStrictHint});
      EXPECT_FALSE(options.*option.member) << entry;
    }
  }
}

TEST(Options, OnlyTurnsOffWhatWasOn) {
  Options options;
  EXPECT_EQ(Parse({"TARN_VERBOSE=on", "TARN_VERBOSE=off"}, &options).size(), 0u);
  EXPECT_FALSE(options.verbose);
}

TEST(Options, ModesAreThree) {
  Options options;
  EXPECT_EQ(Parse({"TARN_MODE=cpu"}, &options).size(), 0u);
  EXPECT_EQ(options.mode, ModeRequest::kCpu);
  EXPECT_EQ(Parse({"TARN_MODE=thread"}, &options).size(), 0u);
  EXPECT_EQ(options.mode, ModeRequest::kThread);
  EXPECT_EQ(Parse({"TARN_MODE=thread", "TARN_MODE=auto"}, &options).size(), 0u);
  EXPECT_EQ(options.mode, ModeRequest::kAuto);
  EXPECT_EQ(Parse({"TARN_MODE=rseq"}, &options),
            std::vector<std::string>{std::string("tarn: TARN_MODE=rseq cannot be used: expected auto, cpu or thread") +
                                     kStrictHint});
  EXPECT_EQ(options.mode, ModeRequest::kAuto);
}

TEST(Options, BytesHaveUnits) {
  struct {
    const char* value;
    std::size_t bytes;
  } const good[] = {{"0", 0},
                    {"1", 1},
                    {"007", 7},
                    {"4096B", 4096},
                    {"1536KiB", std::size_t{1536} << 10},
                    {"3MiB", std::size_t{3} << 20},
                    {"2GiB", std::size_t{2} << 30},
                    {"1TiB", std::size_t{1} << 40},
                    {"1024GiB", std::size_t{1} << 40},
                    {"1099511627776", std::size_t{1} << 40}};
  for (const auto& value : good) {
    Options options;
    const std::string entry = std::string("TARN_CPU_CACHE=") + value.value;
    EXPECT_EQ(Parse({entry.c_str()}, &options).size(), 0u) << entry;
    EXPECT_EQ(options.cpu_cache_bytes, value.bytes) << entry;
  }
  // The last ones would be small numbers if the arithmetic wrapped round.
  for (const char* value : {"", "KiB", "-1", "+1", "1.5MiB", "1 MiB", "1kib", "1K", "1MB", "0x10", "1MiBs", "2TiB",
                            "1025GiB", "1099511627777", "18446744073709551616", "18446744073709551617KiB",
                            "17179869184TiB", "99999999999999999999999999999999"}) {
    Options options;
    const std::string entry = std::string("TARN_CPU_CACHE=") + value;
    EXPECT_EQ(Parse({entry.c_str()}, &options),
              std::vector<std::string>{"tarn: " + entry +
                                       " cannot be used: expected a number of bytes such as 1536KiB, at most 1TiB" +
                                       kStrictHint});
    EXPECT_EQ(options.cpu_cache_bytes, kDefaultOptions.cpu_cache_bytes) << entry;
  }
}

TEST(Options, LimitsAreBytesOrSharesOrNone) {
  using Kind = LimitSetting::Kind;
  EXPECT_EQ(kDefaultOptions.memory_limit.kind, Kind::kAuto);
  EXPECT_EQ(kDefaultOptions.hard_limit.kind, Kind::kNone);
  struct {
    const char* value;
    Kind kind;
    std::size_t number;
  } const good[] = {{"512MiB", Kind::kBytes, std::size_t{512} << 20},
                    {"1", Kind::kBytes, 1},
                    {"64TiB", Kind::kBytes, std::size_t{64} << 40},
                    {"80%", Kind::kPercent, 80},
                    {"100%", Kind::kPercent, 100},
                    {"off", Kind::kNone, 0},
                    {"none", Kind::kNone, 0}};
  for (const auto& limit : good) {
    for (const bool hard : {false, true}) {
      Options options;
      const std::string entry = std::string(hard ? "TARN_HARD_LIMIT=" : "TARN_MEMORY_LIMIT=") + limit.value;
      EXPECT_EQ(Parse({entry.c_str()}, &options).size(), 0u) << entry;
      const LimitSetting& setting = hard ? options.hard_limit : options.memory_limit;
      EXPECT_EQ(setting.kind, limit.kind) << entry;
      EXPECT_EQ(setting.value, limit.number) << entry;
    }
  }
  for (const char* value : {"", "0", "0%", "101%", "%", "80 %", "8MiB%", "-1", "65TiB", "much", "automatic"}) {
    for (const char* name : {"TARN_MEMORY_LIMIT=", "TARN_HARD_LIMIT="}) {
      const std::string entry = std::string(name) + value;
      EXPECT_EQ(Parse({entry.c_str()}).size(), 1u) << entry;
    }
  }
  EXPECT_EQ(Parse({"TARN_MEMORY_LIMIT=auto"}).size(), 0u);
  EXPECT_EQ(
      Parse({"TARN_HARD_LIMIT=auto"}),
      std::vector<std::string>{std::string("tarn: TARN_HARD_LIMIT=auto cannot be used: expected a number of bytes "
                                           "such as 2GiB, a share such as 90%, or off") +
                               kStrictHint});
  EXPECT_EQ(Parse({"TARN_MEMORY_LIMTI=1GiB"}),
            std::vector<std::string>{std::string("tarn: unknown option TARN_MEMORY_LIMTI; did you mean "
                                                 "TARN_MEMORY_LIMIT?") +
                                     kStrictHint});
}

TEST(Options, TheScavengerCanBeTracedAndSwitchedOff) {
  Options options;
  EXPECT_EQ(Parse({}, &options).size(), 0u);
  EXPECT_EQ(options.background, BackgroundSetting::kAuto);
  EXPECT_FALSE(options.trace_scavenge);
  EXPECT_EQ(Parse({"TARN_BACKGROUND=off", "TARN_TRACE=scavenge"}, &options).size(), 0u);
  EXPECT_EQ(options.background, BackgroundSetting::kOff);
  EXPECT_TRUE(options.trace_scavenge);
  EXPECT_EQ(Parse({"TARN_TRACE=off"}, &options).size(), 0u);
  EXPECT_FALSE(options.trace_scavenge);
  EXPECT_EQ(Parse({"TARN_TRACE=on"}).size(), 1u);
  EXPECT_EQ(Parse({"TARN_BACKGROUND=on"}, &options).size(), 0u);
  EXPECT_EQ(options.background, BackgroundSetting::kOn);
  EXPECT_EQ(Parse({"TARN_BACKGROUND=auto"}, &options).size(), 0u);
  EXPECT_EQ(options.background, BackgroundSetting::kAuto);
  EXPECT_EQ(Parse({"TARN_BACKGROUND=often"}).size(), 1u);
}

TEST(Options, HugePagesCanBeSwitchedOff) {
  Options options;
  EXPECT_EQ(Parse({}, &options).size(), 0u);
  EXPECT_TRUE(options.huge_pages);
  EXPECT_EQ(Parse({"TARN_HUGE_PAGES=off"}, &options).size(), 0u);
  EXPECT_FALSE(options.huge_pages);
}

TEST(Options, ProfilesCanBeAskedFor) {
  Options options;
  EXPECT_EQ(Parse({}, &options).size(), 0u);
  EXPECT_EQ(options.profile_prefix, "tarn");
  EXPECT_FALSE(options.profile_at_exit);
  EXPECT_EQ(options.profile_signal, 0);
  EXPECT_EQ(options.profile_growth_bytes, 0u);
  EXPECT_EQ(options.profile_limit_percent, 0u);
  EXPECT_EQ(Parse({"TARN_PROFILE_PREFIX=/tmp/a b", "TARN_PROFILE_AT_EXIT=1", "TARN_PROFILE_SIGNAL=USR2",
                   "TARN_PROFILE_GROWTH=64MiB", "TARN_PROFILE_AT_LIMIT=on"},
                  &options)
                .size(),
            0u);
  EXPECT_EQ(options.profile_prefix, "/tmp/a b");
  EXPECT_TRUE(options.profile_at_exit);
  EXPECT_EQ(options.profile_signal, SIGUSR2);
  EXPECT_EQ(options.profile_growth_bytes, std::size_t{64} << 20);
  EXPECT_EQ(options.profile_limit_percent, 90u);
  EXPECT_EQ(Sources(options, TARN_SOURCE_ENVIRONMENT),
            "TARN_PROFILE_PREFIX=/tmp/a b TARN_PROFILE_AT_EXIT=on TARN_PROFILE_SIGNAL=USR2 TARN_PROFILE_GROWTH=64MiB "
            "TARN_PROFILE_AT_LIMIT=90% ");

  EXPECT_EQ(Parse({"TARN_PROFILE_SIGNAL=SIGHUP", "TARN_PROFILE_AT_LIMIT=75%"}, &options).size(), 0u);
  EXPECT_EQ(options.profile_signal, SIGHUP);
  EXPECT_EQ(options.profile_limit_percent, 75u);
  EXPECT_EQ(Parse({"TARN_PROFILE_SIGNAL=40", "TARN_PROFILE_GROWTH=1MiB"}, &options).size(), 0u);
  EXPECT_EQ(options.profile_signal, 40);
  EXPECT_EQ(Parse({"TARN_PROFILE_SIGNAL=40", "TARN_PROFILE_SIGNAL=off", "TARN_PROFILE_GROWTH=0",
                   "TARN_PROFILE_AT_LIMIT=off", "TARN_PROFILE_AT_EXIT=off"},
                  &options)
                .size(),
            0u);
  EXPECT_EQ(options.profile_signal, 0);

  const std::string long_prefix = "TARN_PROFILE_PREFIX=" + std::string(201, 'x');
  for (const char* entry :
       {long_prefix.c_str(), "TARN_PROFILE_PREFIX=", "TARN_PROFILE_SIGNAL=KILL", "TARN_PROFILE_SIGNAL=SEGV",
        "TARN_PROFILE_SIGNAL=33", "TARN_PROFILE_SIGNAL=65", "TARN_PROFILE_SIGNAL=10",
        "TARN_PROFILE_SIGNAL=", "TARN_PROFILE_SIGNAL=usr1", "TARN_PROFILE_GROWTH=1048575", "TARN_PROFILE_GROWTH=much",
        "TARN_PROFILE_AT_LIMIT=0%", "TARN_PROFILE_AT_LIMIT=101%", "TARN_PROFILE_AT_LIMIT=90",
        "TARN_PROFILE_AT_LIMIT=90MiB%", "TARN_PROFILE_AT_EXIT=exit"}) {
    EXPECT_EQ(Parse({entry}).size(), 1u) << entry;
  }
}

constexpr const char* kStaging =
    "TARN_VERBOSE=on TARN_STATS=off TARN_STRICT=on TARN_PROFILE_RATE=256KiB TARN_PROFILE_AT_LIMIT=90% "
    "TARN_MEMORY_LIMIT=80% TARN_RELEASE_DELAY=1500ms TARN_CHECK=pools TARN_POOL_OBJECTS=1024 ";

TEST(Options, APresetComesBetweenTheDefaultsAndTheEnvironment) {
  Options options;
  EXPECT_EQ(Parse({"TARN_PRESET=staging"}, &options).size(), 0u);
  EXPECT_EQ(Sources(options, TARN_SOURCE_PRESET), kStaging);
  EXPECT_EQ(Sources(options, TARN_SOURCE_ENVIRONMENT), "TARN_PRESET=staging ");
  // Wherever it stands.
  for (const bool first : {true, false}) {
    const char* preset = "TARN_PRESET=development";
    const char* check = "TARN_CHECK=off";
    EXPECT_EQ(Parse({first ? preset : check, first ? check : preset}, &options).size(), 0u);
    EXPECT_FALSE(options.check);
    EXPECT_EQ(options.profile_rate_bytes, std::size_t{64} << 10);
    EXPECT_EQ(options.release_delay_ms, 500u);
    EXPECT_EQ(options.pool_objects, 128u);
    EXPECT_TRUE(options.stats);
  }
  EXPECT_EQ(Parse({"TARN_PRESET=production"}, &options).size(), 0u);
  EXPECT_EQ(options.release_delay_ms, 5000u);
  EXPECT_EQ(options.pool_objects, 4096u);
  EXPECT_FALSE(options.check || options.strict);
  EXPECT_EQ(Parse({"TARN_PRESET=off"}, &options).size(), 0u);
  EXPECT_EQ(Sources(options, TARN_SOURCE_PRESET), "");
  EXPECT_EQ(Parse({"TARN_PRESET=prod"}, &options),
            std::vector<std::string>{
                std::string("tarn: TARN_PRESET=prod cannot be used: expected production, staging, development or off") +
                kStrictHint});
  EXPECT_EQ(Sources(options, TARN_SOURCE_PRESET), "");
}

TEST(Options, EveryPresetSetsTheSameAndAllOfIt) {
  for (const char* preset : {"production", "staging", "development"}) {
    Options options;
    EXPECT_EQ(Parse({("TARN_PRESET=" + std::string(preset)).c_str()}, &options).size(), 0u);
    EXPECT_EQ(PresetName(options.preset), preset);
    std::uint32_t set = 0;
    for (std::size_t i = 0; i < kSettingCount; ++i) {
      for (const char* value : kSettings[i].presets) set |= std::uint32_t{*value != '\0'} << i;
    }
    EXPECT_EQ(options.from_preset, set) << preset;
  }
}

TEST(Options, APresetThatComesLaterLeavesWhatWasSetByName) {
  Options options;
  EXPECT_EQ(Parse({"TARN_PRESET=development", "TARN_POOL_OBJECTS=77"}, &options).size(), 0u);
  DescribedOptions described;
  DescribeOptions(options, described);
  options.profile_rate_bytes = 4096;
  NoteProgramSetting("TARN_PROFILE_RATE", &options, described);
  ChangePreset(Preset::kProduction, &options);
  EXPECT_EQ(options.pool_objects, 77u);
  EXPECT_EQ(options.profile_rate_bytes, 4096u);
  EXPECT_EQ(options.release_delay_ms, 5000u);
  EXPECT_FALSE(options.check || options.stats);
  EXPECT_EQ(options.profile_limit_percent, 0u);
  EXPECT_EQ(options.memory_limit.kind, LimitSetting::Kind::kAuto);
  // Those that have had their effect at the start.
  EXPECT_TRUE(options.strict);
  EXPECT_EQ(Sources(options, TARN_SOURCE_API), "TARN_PROFILE_RATE=4KiB ");
  ChangePreset(Preset::kOff, &options);
  EXPECT_EQ(options.release_delay_ms, kDefaultOptions.release_delay_ms);
  EXPECT_EQ(Sources(options, TARN_SOURCE_PRESET), "TARN_VERBOSE=on TARN_STRICT=on ");
}

TEST(Options, DelaysAndCountsHaveBounds) {
  Options options;
  EXPECT_EQ(Parse({"TARN_RELEASE_DELAY=100ms", "TARN_POOL_OBJECTS=1"}, &options).size(), 0u);
  EXPECT_EQ(options.release_delay_ms, 100u);
  EXPECT_EQ(options.pool_objects, 1u);
  EXPECT_EQ(Parse({"TARN_RELEASE_DELAY=60s", "TARN_POOL_OBJECTS=1048576"}, &options).size(), 0u);
  EXPECT_EQ(options.release_delay_ms, 60000u);
  EXPECT_EQ(options.pool_objects, 1048576u);
  for (const char* entry :
       {"TARN_RELEASE_DELAY=", "TARN_RELEASE_DELAY=1500", "TARN_RELEASE_DELAY=99ms", "TARN_RELEASE_DELAY=61s",
        "TARN_RELEASE_DELAY=60001ms", "TARN_RELEASE_DELAY=0s", "TARN_RELEASE_DELAY=s", "TARN_RELEASE_DELAY=ms",
        "TARN_RELEASE_DELAY=1KiBs", "TARN_RELEASE_DELAY=-1s", "TARN_RELEASE_DELAY=1m",
        "TARN_RELEASE_DELAY=18446744073709551616s", "TARN_POOL_OBJECTS=0", "TARN_POOL_OBJECTS=1048577",
        "TARN_POOL_OBJECTS=1KiB", "TARN_POOL_OBJECTS=", "TARN_POOL_OBJECTS=-1"}) {
    EXPECT_EQ(Parse({entry}).size(), 1u) << entry;
  }
}

TEST(Options, AMisspeltNameGetsTheNearestRightOne) {
  struct {
    const char* entry;
    const char* meant;
  } const misspelt[] = {{"TARN_VERBOES=1", "TARN_VERBOSE"},     {"TARN_VREBSOE=1", "TARN_VERBOSE"},
                        {"TARN_VERBOS=1", "TARN_VERBOSE"},      {"TARN_VERBOSEE=1", "TARN_VERBOSE"},
                        {"TARN_STAT=1", "TARN_STATS"},          {"TARN_STRIC=1", "TARN_STRICT"},
                        {"TARN_MODUS=cpu", "TARN_MODE"},        {"TARN_CPUCACHE=1", "TARN_CPU_CACHE"},
                        {"TARN_CPU_CAHCE=1", "TARN_CPU_CACHE"}, {"TARN_verbose=1", nullptr},
                        {"TARN_SOMETHING_ELSE=1", nullptr}};
  for (const auto& name : misspelt) {
    const std::string entry = name.entry;
    std::string line = "tarn: unknown option " + entry.substr(0, entry.find('='));
    if (name.meant != nullptr) line += std::string("; did you mean ") + name.meant + "?";
    EXPECT_EQ(Parse({name.entry}), std::vector<std::string>{line + kStrictHint}) << entry;
  }
}

TEST(Options, OddEntriesAreTakenAsTheyAre) {
  EXPECT_EQ(Parse({"TARN_STATS"}).size(), 1u);
  EXPECT_EQ(Parse({"TARN_"}).size(), 1u);
  EXPECT_EQ(Parse({"TARN_=on"}).size(), 1u);
  EXPECT_EQ(Parse({"TARN_STATS=on=off"}).size(), 1u);
  // Others' names, and those of these tests.
  EXPECT_EQ(Parse({"TARN=1", "TARNISH=1", "tarn_stats=1", "XTARN_STATS=on", "PATH=/bin", "=", "", "TARN_TEST_X=1"}),
            std::vector<std::string>{});
}

TEST(Options, AVeryLongEntryIsCutAndNothingElse) {
  const std::string name = "TARN_" + std::string(10000, 'X') + "=1";
  const std::string value = "TARN_MODE=" + std::string(10000, 'y');
  Options options;
  const std::vector<std::string> said = Parse({name.c_str(), value.c_str(), "TARN_STATS=on"}, &options);
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(said[0].rfind("tarn: unknown option TARN_XXX", 0), 0u);
  EXPECT_EQ(said[1].rfind("tarn: TARN_MODE=yyy", 0), 0u);
  EXPECT_LE(said[0].size(), 1000u);
  EXPECT_TRUE(options.stats);
}

TEST(Options, EveryComplaintIsCountedAndTheRestStillHolds) {
  Options options;
  const std::vector<std::string> said =
      Parse({"TARN_STATS=on", "TARN_VERBSOE=on", "TARN_MODE=fast", "TARN_STRICT=yes", "TARN_CPU_CACHE=many"}, &options);
  EXPECT_EQ(said.size(), 3u);
  EXPECT_TRUE(options.stats);
  EXPECT_TRUE(options.strict);
  EXPECT_FALSE(options.verbose);
}

// The value of one setting, printed after the entry NAME=value was parsed; "?": it was refused.
std::string Value(const Setting& setting, const std::string& value) {
  Options options;
  const std::string entry = std::string(setting.name) + "=" + value;
  if (!Parse({entry.c_str()}, &options).empty()) return "?";
  DescribedOptions described;
  DescribeOptions(options, described);
  EXPECT_EQ(described[&setting - kSettings].source, TARN_SOURCE_ENVIRONMENT) << entry;
  return described[&setting - kSettings].value;
}

std::vector<std::string> Words(const Setting& setting) {
  std::vector<std::string> words;
  std::string_view rest = setting.words;
  while (!rest.empty()) {
    words.emplace_back(rest.substr(0, rest.find('|')));
    rest.remove_prefix(std::min(words.back().size() + 1, rest.size()));
  }
  return words;
}

// A number in the setting's unit.
std::string Number(const Setting& setting, std::uint64_t number) {
  switch (setting.kind) {
    case SettingKind::kTime:
      return std::to_string(number) + "ms";
    case SettingKind::kPath:
      return std::string(number, 'x');
    default:
      return std::to_string(number);
  }
}

bool IsBounded(const Setting& setting) { return setting.most != 0; }

TEST(SettingTable, NamesAreDistinctAndFitTheSnapshot) {
  std::set<std::string> names;
  for (const Setting& setting : kSettings) {
    EXPECT_TRUE(names.insert(setting.name).second) << setting.name;
    EXPECT_EQ(std::string(setting.name).rfind("TARN_", 0), 0u) << setting.name;
    EXPECT_NE(std::string(setting.name).rfind("TARN_TEST_", 0), 0u) << setting.name;
    EXPECT_LT(std::string(setting.name).size(), sizeof(tarn_snapshot_option::name)) << setting.name;
  }
}

TEST(SettingTable, DefaultsAndPresetsPrintAsTheyStand) {
  DescribedOptions described;
  DescribeOptions(kDefaultOptions, described);
  for (const Setting& setting : kSettings) {
    const tarn_snapshot_option& option = described[&setting - kSettings];
    EXPECT_STREQ(option.name, setting.name);
    EXPECT_STREQ(option.value, setting.default_value) << setting.name;
    EXPECT_STREQ(option.default_value, setting.default_value) << setting.name;
    EXPECT_EQ(option.source, TARN_SOURCE_DEFAULT) << setting.name;
    EXPECT_EQ(Value(setting, setting.default_value), setting.default_value) << setting.name;
    for (const char* value : setting.presets) {
      if (*value == '\0') continue;
      EXPECT_EQ(Value(setting, value), value) << setting.name;
    }
  }
}

TEST(SettingTable, WordsAreTakenAndNamed) {
  for (const Setting& setting : kSettings) {
    for (const std::string& word : Words(setting)) {
      EXPECT_NE(Value(setting, word), "?") << setting.name << "=" << word;
      EXPECT_EQ(Value(setting, word + "|"), "?") << setting.name;
      // none is another name of off; of a number that may be 0, so is off.
      if (word == "none" || (setting.or_zero && word == "off")) continue;
      EXPECT_NE(std::string(setting.expected).find(word), std::string::npos) << setting.name << ": " << word;
    }
    for (const char* word : {"yes", "true"}) {
      const bool has_on = setting.synonyms && Value(setting, "on") != "?";
      EXPECT_EQ(Value(setting, word), has_on                               ? Value(setting, "on")
                                      : setting.kind == SettingKind::kPath ? word
                                                                           : "?")
          << setting.name;
    }
    EXPECT_EQ(Value(setting, ""), "?") << setting.name;
    EXPECT_TRUE(Words(setting).size() < 2 || Value(setting, setting.words) == "?") << setting.name;
  }
}

TEST(SettingTable, BoundsHold) {
  for (const Setting& setting : kSettings) {
    if (!IsBounded(setting)) continue;
    EXPECT_NE(Value(setting, Number(setting, setting.least)), "?") << setting.name;
    EXPECT_NE(Value(setting, Number(setting, setting.most)), "?") << setting.name;
    EXPECT_EQ(Value(setting, Number(setting, setting.most + 1)), "?") << setting.name;
    if (setting.least > 0) {
      const bool zero = setting.or_zero && setting.least == 1;
      EXPECT_EQ(Value(setting, Number(setting, setting.least - 1)) != "?", zero) << setting.name;
      EXPECT_EQ(Value(setting, Number(setting, 0)) != "?", setting.or_zero) << setting.name;
    }
  }
}

TEST(SettingTable, PresetsAreNamedAsTheyCanBeSet) {
  const std::vector<std::string> words = Words(kSettings[0]);
  ASSERT_STREQ(kSettings[0].name, "TARN_PRESET");
  ASSERT_EQ(words.size(), std::size(kPresetNames));
  for (std::size_t i = 0; i < words.size(); ++i) {
    Preset preset = Preset::kOff;
    EXPECT_EQ(words[i], kPresetNames[i]);
    EXPECT_TRUE(FindPreset(words[i], &preset));
    EXPECT_EQ(preset, static_cast<Preset>(i));
  }
}

}  // namespace
}  // namespace tarn
