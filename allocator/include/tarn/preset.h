// SPDX-License-Identifier: Apache-2.0
//
// tarn/preset.h: settings for the stages of a program's life, all at once.
//
// The same as TARN_PRESET in the environment, for programs that know their stage themselves. For C, with the same in
// C++ in namespace tarn. Any thread may call; the functions keep errno where they do not fail.
//
//                           built in   production   staging   development
//   TARN_MEMORY_LIMIT       auto       auto         80%       50%            of the container, or of the machine
//   TARN_RELEASE_DELAY      1500ms     5s           1500ms    500ms
//   TARN_PROFILE_RATE       512KiB     512KiB       256KiB    64KiB
//   TARN_PROFILE_AT_LIMIT   off        off          90%       90%
//   TARN_CHECK              off        off          pools     pools
//   TARN_POOL_OBJECTS       1024       4096         1024      128
//   TARN_VERBOSE            off        on           on        on             (environment only)
//   TARN_STATS              off        off          off       on
//   TARN_STRICT             off        off          on        on             (environment only)
//
// What the environment, or the program by a function of its own (tarn_set_memory_limit, tarn_set_profile_rate), has set
// stays as it is.
#ifndef TARN_PRESET_H
#define TARN_PRESET_H

#ifdef __cplusplus
extern "C" {
#endif

// "production", "staging", "development", or "off": the built-in settings again. TARN_CHECK and TARN_POOL_OBJECTS count
// for pools, arenas and heaps that are made from now on. 0; -1 with errno EINVAL: no such name, or EBUSY: called by a
// signal handler that has interrupted an allocation. Of several threads that call it at once, any may have the last
// word.
int tarn_set_preset(const char* name);
// The name of the one in force; "off": none.
const char* tarn_preset(void);

#ifdef __cplusplus
}  // extern "C"

namespace tarn {

inline bool SetPreset(const char* name) noexcept { return tarn_set_preset(name) == 0; }
inline const char* PresetInForce() noexcept { return tarn_preset(); }

}  // namespace tarn
#endif

#endif
