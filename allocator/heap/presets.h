// Sets of settings for the stages of a program's life, as TARN_PRESET names them.
//
//                           built in   production   staging   development
//   TARN_MEMORY_LIMIT       auto       auto         80%       50%            of the container, or of the machine
//   TARN_RELEASE_DELAY      1500ms     5s           1500ms    500ms
//   TARN_PROFILE_RATE       512KiB     512KiB       256KiB    64KiB
//   TARN_PROFILE_AT_LIMIT   off        off          90%       90%
//   TARN_CHECK              off        off          on        on
//   TARN_POOL_OBJECTS       1024       4096         1024      128
//   TARN_VERBOSE            off        on           on        on
//   TARN_STATS              off        off          off       on
//   TARN_STRICT             off        off          on        on
//
// Production spends memory on steadiness: it keeps what a slower rhythm will want again, recycles more, and never stops a
// program for a setting that is wrong. Staging finds out what production would not survive: too little memory, misuse of
// pools and arenas, misspelt settings. Development looks closest.
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
