// SPDX-License-Identifier: Apache-2.0
//
// Files that a thread which may open nothing else still opens: its filter compares the addresses of these names
// (thread_filter.h). So each stands once, in memory that cannot be written.
#pragma once

namespace tarn {

extern const char kStatmPath[];        // the process's resident memory (proc(5))
extern const char kTasksPath[];        // has one link for each thread, and two more
extern const char kFirstStderrPath[];  // stderr of the process's first thread

}  // namespace tarn
