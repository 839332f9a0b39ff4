// SPDX-License-Identifier: Apache-2.0
//
// One run of a command: started, watched from outside, and measured.
//
// The process is traced (ptrace) with one option, to be stopped when it exits: only there do its maps, its peak RSS and
// its last RSS stand complete, however short it lived. Until then nothing stops it but its own signals; the time in
// which it is stopped at the exit is subtracted from its wall time. Where tracing is not permitted, or not wanted, what
// the samples have seen has to do.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tools/tarn/compare/rss_series.h"

namespace tarn::tool {

struct Launch {
  std::string program;               // path
  std::vector<std::string> command;  // argv
  std::vector<std::string> environment;
  std::vector<int> cpus;  // empty: wherever the kernel likes
  std::string directory;  // for the files with its output
  double rss_interval_s = 0.01;
  double idle_tail_s = 0;  // 0: none
  bool trace = true;
};

struct Outcome {
  std::string start_error;  // not empty: it never ran
  int exit_code = 0;        // -1 if a signal ended it
  int signal = 0;
  bool idle_ended = false;   // it was silent for the idle tail, and was ended by us
  int left_behind = 0;       // processes that outlived it, and were ended
  bool interrupted = false;  // by SIGINT or SIGTERM to this process
  bool traced = false;
  std::vector<std::string> mapped;  // paths of files mapped executable, in the last complete look
  std::string executable;           // of the process, at that time
  double wall_s = 0;
  double user_s = 0;  // of the process and all of its descendants
  double system_s = 0;
  std::uint64_t peak_rss_bytes = 0;  // of the largest of them; 0: unknown
  std::uint64_t end_rss_bytes = 0;   // of the process, the last that was seen
  std::uint64_t idle_rss_bytes = 0;  // after the idle tail
  std::uint64_t minor_faults = 0;
  std::uint64_t major_faults = 0;
  std::uint64_t context_switches = 0;
  std::vector<RssSeries::Point> rss;
  std::string stdout_sha256;
  std::string stderr_tail;
};

// Before the first run: descendants whose parents have ended become this process's children, and count; interrupts are
// taken at defined places only, and make the present run end.
void PrepareToRun();

// Whether an interrupt has come since PrepareToRun.
bool WasInterrupted();

Outcome RunOnce(const Launch& launch);

}  // namespace tarn::tool
