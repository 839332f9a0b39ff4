// SPDX-License-Identifier: Apache-2.0
//
// Reads the settings of the process from the environment, and says what they are.
//
// Read once, at the first allocation; ignored when the process runs with rights that its caller does not have. An
// unknown name that begins with TARN_ is reported on stderr, with the nearest known one, and so is a value that cannot
// be used. TARN_STRICT=on makes that fatal: exit code 78. Values of a preset come before the defaults, values from the
// environment before both, and values that the program sets while it runs before all.
//
// Names that begin with TARN_TEST_ belong to tarn's own tests and mean nothing to the library.
//
// All of this runs within the first malloc of a process, maybe before any constructor. It allocates nothing and calls
// no function of libc. It needs only the relocations of this library, which are done before the code runs.
#pragma once

#include <cstddef>
#include <string_view>

#include "allocator/include/tarn/snapshot.h"
#include "allocator/settings/options.h"
#include "allocator/settings/table.h"

namespace tarn {

extern const Options kDefaultOptions;

// Parses the NULL-terminated NAME=value strings (null: none). Passes each complaint to `complain` as one line without a
// line end; returns their number.
using Complain = void (*)(const char* line, std::size_t length);
int ParseOptions(const char* const* environment, Options* options, Complain complain);

// False when there is none of this name.
bool FindPreset(std::string_view name, Preset* preset);
std::string_view PresetName(Preset preset);
// Replaces what came from another preset, as far as it can change while the program runs (Setting::changes). What the
// environment or the program has set by name stays.
void ChangePreset(Preset preset, Options* options);

// Describes the settings for people: name, value, default and source of each.
using DescribedOptions = tarn_snapshot_option[kSettingCount];
void DescribeOptions(const Options& options, DescribedOptions& described);
// The program has changed this one.
void NoteProgramSetting(std::string_view name, Options* options, DescribedOptions& described);

}  // namespace tarn
