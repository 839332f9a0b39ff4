// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/presets.h"

#include <cstddef>
#include <iterator>

namespace tarn {

namespace {

constexpr std::string_view kNames[] = {"off", "production", "staging", "development"};

constexpr const char* kNothing[] = {nullptr};
constexpr const char* kProduction[] = {"TARN_MEMORY_LIMIT=auto",   "TARN_RELEASE_DELAY=5s",
                                       "TARN_PROFILE_RATE=512KiB", "TARN_PROFILE_AT_LIMIT=off",
                                       "TARN_CHECK=off",           "TARN_POOL_OBJECTS=4096",
                                       "TARN_VERBOSE=on",          "TARN_STATS=off",
                                       "TARN_STRICT=off",          nullptr};
constexpr const char* kStaging[] = {"TARN_MEMORY_LIMIT=80%",
                                    "TARN_RELEASE_DELAY=1500ms",
                                    "TARN_PROFILE_RATE=256KiB",
                                    "TARN_PROFILE_AT_LIMIT=90%",
                                    "TARN_CHECK=on",
                                    "TARN_POOL_OBJECTS=1024",
                                    "TARN_VERBOSE=on",
                                    "TARN_STATS=off",
                                    "TARN_STRICT=on",
                                    nullptr};
constexpr const char* kDevelopment[] = {"TARN_MEMORY_LIMIT=50%",   "TARN_RELEASE_DELAY=500ms",
                                        "TARN_PROFILE_RATE=64KiB", "TARN_PROFILE_AT_LIMIT=90%",
                                        "TARN_CHECK=on",           "TARN_POOL_OBJECTS=128",
                                        "TARN_VERBOSE=on",         "TARN_STATS=on",
                                        "TARN_STRICT=on",          nullptr};

}  // namespace

bool FindPreset(std::string_view name, Preset* preset) {
  for (std::size_t i = 0; i < std::size(kNames); ++i) {
    if (name != kNames[i]) continue;
    *preset = static_cast<Preset>(i);
    return true;
  }
  return false;
}

std::string_view PresetName(Preset preset) { return kNames[static_cast<std::size_t>(preset)]; }

const char* const* PresetEntries(Preset preset) {
  switch (preset) {
    case Preset::kProduction:
      return kProduction;
    case Preset::kStaging:
      return kStaging;
    case Preset::kDevelopment:
      return kDevelopment;
    case Preset::kOff:
      break;
  }
  return kNothing;
}

}  // namespace tarn
