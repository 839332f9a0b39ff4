// SPDX-License-Identifier: Apache-2.0
//
// The figures that the kernel has of a process: /proc/PID/status.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace tarn::tool {

// The value of a line such as "VmHWM:     1234 kB", here "1234 kB". Empty where there is no such line or process.
std::string StatusField(pid_t pid, std::string_view name);

// The value in bytes of a line that counts in kB: VmRSS is what is resident, VmHWM its peak. 0 where there is no such
// line.
std::uint64_t StatusBytes(pid_t pid, std::string_view name);

}  // namespace tarn::tool
