// SPDX-License-Identifier: Apache-2.0

#include "allocator/settings/settings.h"

#include <algorithm>
#include <array>
#include <string_view>

#include "allocator/base/attributes.h"
#include "allocator/base/nearest_name.h"
#include "allocator/base/quantities.h"
#include "allocator/base/text.h"
#include "allocator/os/signals.h"

namespace tarn {

namespace {

constexpr std::string_view kPrefix = "TARN_";
constexpr std::string_view kTestPrefix = "TARN_TEST_";

// The part of the table's row that a process needs: the texts for documents stay out of the library. Texts are places
// in Table::texts, and the fields stand apart: a pointer is written by the loader, in each process.
struct Row {
  std::uint16_t name;
  std::uint16_t words;
  std::uint16_t expected;
  std::uint64_t least;
  std::uint64_t most;
  char presets[kPresetCount][8];
  SettingKind kind;
  bool synonyms;
  bool or_zero;
  bool changes;
};

constexpr std::string_view TextOf(const char* text) { return text == nullptr ? std::string_view() : text; }

constexpr std::size_t kTextBytes = [] {
  std::size_t bytes = 0;
  for (const Setting& from : kSettings) {
    for (const char* text : {from.name, from.words, from.expected}) bytes += TextOf(text).size() + 1;
  }
  return bytes;
}();
static_assert(kTextBytes <= UINT16_MAX);

struct Table {
  std::array<Row, kSettingCount> rows = {};
  std::array<char, kTextBytes> texts = {};
};

constexpr Table kTable = [] {
  Table table;
  std::size_t end = 0;
  const auto add = [&](const char* text) {
    const auto place = static_cast<std::uint16_t>(end);
    for (const char letter : TextOf(text)) table.texts[end++] = letter;
    ++end;
    return place;
  };
  for (std::size_t i = 0; i < kSettingCount; ++i) {
    const Setting& from = kSettings[i];
    table.rows[i] = {.name = add(from.name),
                     .words = add(from.words),
                     .expected = add(from.expected),
                     .least = from.least,
                     .most = from.most,
                     .presets = {},
                     .kind = from.kind,
                     .synonyms = from.synonyms,
                     .or_zero = from.or_zero,
                     .changes = from.changes};
    for (std::size_t preset = 0; preset < kPresetCount; ++preset)
      std::copy_n(from.presets[preset], sizeof from.presets[preset], table.rows[i].presets[preset]);
  }
  return table;
}();
constexpr const std::array<Row, kSettingCount>& kRows = kTable.rows;

constexpr std::array<SettingField, kSettingCount> kFields = [] {
  std::array<SettingField, kSettingCount> fields = {};
  for (std::size_t i = 0; i < kSettingCount; ++i) fields[i] = kSettings[i].field;
  return fields;
}();

const SettingField& RowField(const Row& row) { return kFields[static_cast<std::size_t>(&row - kRows.data())]; }
constexpr std::string_view TextAt(std::uint16_t place) { return &kTable.texts[place]; }
static_assert(kSettingCount <= 32, "the sources of the settings are bits of a word");

// The `index`th of "a|b|c"; empty: there are fewer.
constexpr std::string_view WordAt(std::string_view words, std::uint64_t index) {
  while (true) {
    const std::size_t length = std::min(words.find('|'), words.size());
    if (index == 0 || words.empty()) return {words.data(), length};
    words.remove_prefix(std::min(length + 1, words.size()));
    --index;
  }
}

// The place of the word among "a|b|c", or -1.
constexpr int PlaceOf(std::string_view word, std::string_view words) {
  for (int place = 0;; ++place) {
    const std::string_view next = WordAt(words, static_cast<std::uint64_t>(place));
    if (next.empty()) return -1;
    if (next == word) return place;
  }
}

constexpr std::string_view WithoutSynonym(std::string_view word) {
  if (word == "1" || word == "yes" || word == "true") return "on";
  if (word == "0" || word == "no" || word == "false") return "off";
  return word;
}

// The bits of "a,c" among "a|b|c". False: one of them is not there.
constexpr bool ParseParts(std::string_view text, std::string_view words, std::uint64_t* bits) {
  *bits = text == "on" ? kCheckOn : 0;
  if (text == "on" || text == "off") return true;
  while (true) {
    const std::size_t length = std::min(text.find(','), text.size());
    const int place = PlaceOf({text.data(), length}, words);
    if (place < 0) return false;
    *bits |= std::uint64_t{1} << place;
    if (length == text.size()) return true;
    text.remove_prefix(length + 1);
  }
}

constexpr LimitSetting LimitOfWord(std::string_view word) {
  if (word == "auto") return {LimitSetting::Kind::kAuto, 0, true};
  return {LimitSetting::Kind::kNone, 0};
}

constexpr bool ParseLimit(std::string_view text, const Row& row, LimitSetting* limit) {
  std::uint64_t number = 0;
  if (ParsePercent(text, &number)) {
    *limit = {LimitSetting::Kind::kPercent, static_cast<std::size_t>(number)};
    return true;
  }
  if (!ParseBytes(text, row.most, &number) || number < row.least) return false;
  *limit = {LimitSetting::Kind::kBytes, static_cast<std::size_t>(number)};
  return true;
}

// The share of the limit that `on` stands for. Chosen.
constexpr std::uint64_t kUsualPercent = 90;

// False: the row takes no such value.
constexpr bool ParseValue(const Row& row, std::string_view text, SettingValue* value) {
  const std::string_view word = row.synonyms ? WithoutSynonym(text) : text;
  if (row.kind == SettingKind::kParts) return ParseParts(word, TextAt(row.words), &value->number);
  if (const int place = PlaceOf(word, TextAt(row.words)); place >= 0) {
    value->number = row.kind == SettingKind::kPercent && place != 0 ? kUsualPercent : static_cast<std::uint64_t>(place);
    value->limit = LimitOfWord(word);
    return true;
  }
  std::uint64_t* number = &value->number;
  const auto in_bounds = [&] { return *number >= row.least || (row.or_zero && *number == 0); };
  switch (row.kind) {
    case SettingKind::kSwitch:
    case SettingKind::kChoice:
    case SettingKind::kParts:
      return false;
    case SettingKind::kCount:
      return ParseNumber(text, row.most, number) && in_bounds();
    case SettingKind::kBytes:
      return ParseBytes(text, row.most, number) && in_bounds();
    case SettingKind::kTime:
      return ParseMilliseconds(text, row.most, number) && in_bounds();
    case SettingKind::kPercent:
      return ParsePercent(text, number);
    case SettingKind::kLimit:
      return ParseLimit(text, row, &value->limit);
    case SettingKind::kSignal:
      *number = static_cast<std::uint64_t>(SignalNumber(text));
      return *number != 0;
    case SettingKind::kPath:
      value->text = text;
      return text.size() >= row.least && text.size() <= row.most;
  }
  return false;
}

// The values as ParseValue takes them; a text may be cut.
using ValueText = Text<40>;

TARN_COLD void Print(const Quantity& quantity, ValueText* text) { *text << quantity.number << quantity.unit; }

void PrintParts(const Row& row, std::uint64_t bits, ValueText* text) {
  if (bits == 0 || bits == kCheckOn) {
    *text << (bits == 0 ? "off" : "on");
    return;
  }
  std::string_view separator = "";
  for (std::uint64_t place = 0; bits >> place != 0; ++place) {
    if ((bits >> place & 1) == 0) continue;
    *text << separator << WordAt(TextAt(row.words), place);
    separator = ",";
  }
}

void PrintValue(const Row& row, const Options& options, ValueText* text) {
  const SettingValue value = RowField(row).load(options);
  std::string_view word = "off";
  switch (row.kind) {
    case SettingKind::kSwitch:
    case SettingKind::kChoice:
      word = WordAt(TextAt(row.words), value.number);
      break;
    case SettingKind::kParts:
      return PrintParts(row, value.number, text);
    case SettingKind::kCount:
      return Print({value.number, ""}, text);
    case SettingKind::kBytes:
      return Print(ExactBytes(value.number), text);
    case SettingKind::kTime:
      return Print(ExactMilliseconds(value.number), text);
    case SettingKind::kPercent:
      if (value.number != 0) return Print({value.number, "%"}, text);
      break;
    case SettingKind::kLimit:
      if (value.limit.kind == LimitSetting::Kind::kPercent) return Print({value.limit.value, "%"}, text);
      if (value.limit.kind == LimitSetting::Kind::kBytes) return Print(ExactBytes(value.limit.value), text);
      if (value.limit.kind == LimitSetting::Kind::kAuto) word = "auto";
      break;
    case SettingKind::kSignal:
      if (value.number == 0) break;
      word = SignalName(static_cast<int>(value.number));
      if (word.empty()) return Print({value.number, ""}, text);
      break;
    case SettingKind::kPath:
      word = value.text;
      break;
  }
  *text << word;
}

std::uint32_t Bit(const Row* row) { return std::uint32_t{1} << (row - kRows.data()); }

// Null: there is none of this name.
const Row* FindRow(std::string_view name) {
  const Row* const row =
      std::ranges::find_if(kRows, [&](const Row& candidate) { return name == TextAt(candidate.name); });
  return row == kRows.end() ? nullptr : row;
}

std::string_view NearestSetting(std::string_view name) {
  NearestName nearest(3);
  for (const Row& row : kRows) nearest.Consider(TextAt(row.name), EditDistance(name, TextAt(row.name)));
  return nearest.name();
}

bool SetValue(const Row& row, std::string_view text, Options* options) {
  SettingValue value;
  if (!ParseValue(row, text, &value)) return false;
  RowField(row).store(value, options);
  return true;
}

// Sets what the entries say, and notes in options->from_environment which.
int ParseEntries(const char* const* entries, Options* options, Complain complain) {
  int complaints = 0;
  for (; entries != nullptr && *entries != nullptr; ++entries) {
    const std::string_view entry = *entries;
    if (!StartsWith(entry, kPrefix) || StartsWith(entry, kTestPrefix)) continue;
    // Not by substr, which may throw.
    const std::size_t name_length = std::min(entry.find('='), entry.size());
    const std::string_view name(entry.data(), name_length);
    std::string_view value(entry.data() + name_length, entry.size() - name_length);
    if (!value.empty()) value.remove_prefix(1);
    const Row* row = FindRow(name);
    Text<256> line;
    if (row == nullptr) {
      line << "tarn: unknown option " << name;
      const std::string_view nearest = NearestSetting(name);
      if (!nearest.empty()) line << "; did you mean " << nearest << "?";
    } else if (SetValue(*row, value, options)) {
      options->from_environment |= Bit(row);
      continue;
    } else {
      line << "tarn: " << name << "=" << value << " cannot be used: expected " << TextAt(row->expected);
    }
    line << " (TARN_STRICT=1 makes this fatal)";
    complain(line.view().data(), line.view().size());
    ++complaints;
  }
  return complaints;
}

// A preset has no value that is wrong (tests/settings/settings_test.cc).
void ApplyPreset(Options* options) {
  if (options->preset == Preset::kOff) return;
  for (const Row& row : kRows) {
    const char* value = row.presets[static_cast<std::size_t>(options->preset) - 1];
    if (*value != '\0' && SetValue(row, value, options)) options->from_preset |= Bit(&row);
  }
}

void Describe(const Row& row, const Options& options, tarn_snapshot_option* option) {
  *option = {};
  ValueText value;
  PrintValue(row, options, &value);
  ValueText default_value;
  PrintValue(row, kDefaultOptions, &default_value);
  CopyText(TextAt(row.name), option->name, sizeof option->name - 1);
  CopyText(value.view(), option->value, sizeof option->value - 1);
  CopyText(default_value.view(), option->default_value, sizeof option->default_value - 1);
  const std::uint32_t bit = Bit(&row);
  option->source = (options.from_program & bit) != 0       ? TARN_SOURCE_API
                   : (options.from_environment & bit) != 0 ? TARN_SOURCE_ENVIRONMENT
                   : (options.from_preset & bit) != 0      ? TARN_SOURCE_PRESET
                                                           : TARN_SOURCE_DEFAULT;
}

}  // namespace

// Read by the compiler: a default that the table's own row refuses is an error here.
constexpr Options kDefaultOptions = [] {
  Options options = {};
  for (std::size_t i = 0; i < kSettingCount; ++i) {
    SettingValue value;
    if (!ParseValue(kRows[i], kSettings[i].default_value, &value)) __builtin_unreachable();
    // The word auto, where nobody has said it.
    value.limit.asked_for = false;
    kFields[i].store(value, &options);
  }
  return options;
}();

int ParseOptions(const char* const* environment, Options* options, Complain complain) {
  // The preset first, wherever it stands: what is set by name comes before it.
  for (const char* const* entry = environment; entry != nullptr && *entry != nullptr; ++entry) {
    constexpr std::string_view kPreset = "TARN_PRESET=";
    std::string_view text = *entry;
    if (!StartsWith(text, kPreset)) continue;
    text.remove_prefix(kPreset.size());
    FindPreset(text, &options->preset);
  }
  ApplyPreset(options);
  return ParseEntries(environment, options, complain);
}

bool FindPreset(std::string_view name, Preset* preset) {
  for (std::size_t i = 0; i < std::size(kPresetNames); ++i) {
    if (name != kPresetNames[i]) continue;
    *preset = static_cast<Preset>(i);
    return true;
  }
  return false;
}

std::string_view PresetName(Preset preset) { return kPresetNames[static_cast<std::size_t>(preset)]; }

void ChangePreset(Preset preset, Options* options) {
  Options fresh = kDefaultOptions;
  fresh.preset = preset;
  ApplyPreset(&fresh);
  options->preset = preset;
  for (const Row& row : kRows) {
    const std::uint32_t bit = Bit(&row);
    if (!row.changes || ((options->from_environment | options->from_program) & bit) != 0) continue;
    ValueText value;
    PrintValue(row, fresh, &value);
    SetValue(row, value.view(), options);
    options->from_preset = (options->from_preset & ~bit) | (fresh.from_preset & bit);
  }
}

void DescribeOptions(const Options& options, DescribedOptions& described) {
  for (std::size_t i = 0; i < kSettingCount; ++i) Describe(kRows[i], options, &described[i]);
}

void NoteProgramSetting(std::string_view name, Options* options, DescribedOptions& described) {
  const Row* row = FindRow(name);
  options->from_program |= Bit(row);
  Describe(*row, *options, &described[row - kRows.data()]);
}

}  // namespace tarn
