// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the parser of settings: each line of the input is an entry of the environment. What it describes as the value
// of a setting is a value of that setting: parsed again, it is described in the same words.
#include "allocator/settings/settings.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tests/fuzz/fuzzer.h"

namespace {

int complaints = 0;

void NoteComplaint(const char* line, std::size_t length) {
  FUZZ_REQUIRE(std::string_view(line, length).starts_with("tarn: "));
  ++complaints;
}

int Parse(const std::vector<std::string>& entries, tarn::Options* options) {
  std::vector<const char*> pointers;
  for (const std::string& entry : entries) pointers.push_back(entry.c_str());
  pointers.push_back(nullptr);
  complaints = 0;
  const int told = tarn::ParseOptions(pointers.data(), options, NoteComplaint);
  FUZZ_REQUIRE(told == complaints);
  return told;
}

// The description of a setting that holds a path may be cut.
bool IsWhole(const tarn_snapshot_option& option) {
  return std::strlen(option.value) + 1 < sizeof(option.value) && std::strchr(option.value, '/') == nullptr;
}

}  // namespace

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view input = tarn_test::AsText(data, size);
  std::vector<std::string> entries;
  while (!input.empty()) {
    const std::size_t length = input.find('\n') < input.size() ? input.find('\n') : input.size();
    entries.emplace_back(input.substr(0, length).substr(0, input.substr(0, length).find('\0')));
    input.remove_prefix(length < input.size() ? length + 1 : length);
  }
  tarn::Options options = tarn::kDefaultOptions;
  Parse(entries, &options);
  tarn::DescribedOptions described;
  tarn::DescribeOptions(options, described);

  std::vector<std::string> again;
  for (const tarn_snapshot_option& option : described) {
    FUZZ_REQUIRE(std::memchr(option.value, '\0', sizeof(option.value)) != nullptr);
    if (option.source == TARN_SOURCE_ENVIRONMENT && IsWhole(option))
      again.push_back(std::string(option.name) + "=" + option.value);
  }
  tarn::Options options_again = tarn::kDefaultOptions;
  FUZZ_REQUIRE(Parse(again, &options_again) == 0);
  tarn::DescribedOptions described_again;
  tarn::DescribeOptions(options_again, described_again);
  for (std::size_t i = 0; i < tarn::kSettingCount; ++i) {
    if (!IsWhole(described[i])) continue;
    FUZZ_REQUIRE(std::strcmp(described[i].value, described_again[i].value) == 0);
  }
  return 0;
}
