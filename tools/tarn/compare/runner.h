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

#include "tools/tarn/compare/proof.h"
#include "tools/tarn/compare/rss_series.h"

namespace tarn::tool {

// A command that is a server: it is measured while a load runs against it, and is ended by SIGTERM afterwards. These
// helpers run on libc's malloc and are not measured. "{pid}" in their words is the server's process id.
struct Service {
  std::vector<std::string> ready;  // exit code 0: the server serves; tried again until then
  std::vector<std::string> load;   // its wall time is the run's; empty: the command is not a server
  std::vector<std::string> check;  // after the load; its output belongs to the run's; may be empty
};

struct Launch {
  std::string program;               // path
  std::vector<std::string> command;  // argv
  std::vector<std::string> environment;
  std::vector<int> cpus;  // empty: wherever the kernel likes
  std::string directory;  // for the files with its output
  double rss_interval_s = 0.01;
  double idle_tail_s = 0;  // 0: none
  bool trace = true;
  std::string input = "/dev/null";
  std::string working_directory;  // empty: that of this process
  std::string watch;              // the executable below the command whose allocator counts; empty: the command's own
  std::vector<std::string> outputs;  // files that belong to the command's output, besides stdout
  double timeout_s = 0;              // 0: none
  double end_s = 0;                  // on the clock of Now(): the run is cut off then, and does not count; 0: none
  Service service;
};

struct Outcome {
  std::string start_error;   // not empty: it never ran
  std::string failure;       // not empty: what went wrong with it besides its exit code
  bool not_ready = false;    // the server did not come to serve
  bool ended_by_us = false;  // the server, after its load
  int exit_code = 0;         // -1 if a signal ended it
  int signal = 0;
  bool idle_ended = false;   // it was silent for the idle tail, and was ended by us
  int left_behind = 0;       // processes that outlived it, and were ended
  bool interrupted = false;  // by SIGINT or SIGTERM to this process
  bool cut_off = false;      // at Launch::end_s
  bool traced = false;
  MallocUse use;  // in the last look at the process, or at the one that is watched
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
  std::string output_sha256;
  std::string stderr_tail;
};

// Before the first run: descendants whose parents have ended become this process's children, and count; interrupts are
// taken at defined places only, and make the present run end.
void PrepareToRun();

// True if an interrupt has come since PrepareToRun.
bool WasInterrupted();

Outcome RunOnce(const Launch& launch);

}  // namespace tarn::tool
