// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/known_paths.h"

namespace tarn {

const char kStatmPath[] = "/proc/self/statm";
const char kTasksPath[] = "/proc/self/task";
const char kFirstStderrPath[] = "/proc/self/fd/2";

}  // namespace tarn
