// SPDX-License-Identifier: Apache-2.0
//
// The environment that the process was started with, and whether it may be trusted.
#pragma once

namespace tarn {

// The NULL-terminated NAME=value strings, or null where there are none. Works from the loader's first call of malloc
// on, when libc has not yet set `environ`.
const char* const* Environment();

// The process runs with rights that its caller does not have (AT_SECURE: setuid, capabilities).
bool SecureExecution();

// The name of the running program without its directories, for messages.
const char* ProgramName();

}  // namespace tarn
