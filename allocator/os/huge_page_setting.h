// SPDX-License-Identifier: Apache-2.0
//
// The system's setting of transparent huge pages.
#pragma once

#include <cstdint>

namespace tarn {

enum class HugePageSetting : std::uint8_t {
  kNever,    // or the system does not say
  kMadvise,  // where they are asked for
  kAlways,   // wherever they fit
};

// Reads /sys/kernel/mm/transparent_hugepage/enabled (the kernel's Documentation/admin-guide/mm/transhuge.rst). Calls no
// function of libc's that could be a cancellation point. May change errno.
HugePageSetting ReadHugePageSetting();

// Returns the setting as it was when this process first asked. tarn's bare thread may not open the file: where
// nobody has asked yet, it gets kNever.
HugePageSetting KnownHugePageSetting();

}  // namespace tarn
