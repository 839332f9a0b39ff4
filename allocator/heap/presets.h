// SPDX-License-Identifier: Apache-2.0
//
// Sets of settings for the stages of a program's life, as TARN_PRESET names them.
//
// tarn/preset.h has the table of them.
//
// Production spends memory on steadiness: it keeps what a slower rhythm will want again, recycles more, and never stops
// a program for a setting that is wrong. Staging finds out what production would not survive: too little memory, misuse
// of pools and arenas, misspelt settings. Development looks closest.
#pragma once

#include <cstdint>
#include <string_view>

namespace tarn {

enum class Preset : std::uint8_t { kOff, kProduction, kStaging, kDevelopment };

// False when there is none of this name.
bool FindPreset(std::string_view name, Preset* preset);
std::string_view PresetName(Preset preset);
// Its settings as an environment has them, up to a null.
const char* const* PresetEntries(Preset preset);

}  // namespace tarn
