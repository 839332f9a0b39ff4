// SPDX-License-Identifier: Apache-2.0
//
// A server under load: when it is ready, what the load costs it, and whether its answers were right.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "tools/tarn/compare/process_figures.h"
#include "tools/tarn/compare/runner.h"

namespace tarn::tool {

// A TCP port of 127.0.0.1 that nobody has at this moment.
int FreePort();

// The helpers of one run, one after the other: ready until it succeeds, the load, the check.
class ServiceRun {
 public:
  // `launch` and `outcome` must outlive it. The figures of the load go into the outcome.
  ServiceRun(const Launch& launch, Outcome* outcome) : launch_(launch), outcome_(*outcome) {}

  // True if the command is a server.
  bool wanted() const { return !launch_.service.load.empty(); }

  // Goes on with what comes next. False when nothing does, and the server is to be ended.
  bool Step(double now, pid_t server);

  // True if this process, which has ended, was a helper.
  bool Took(pid_t pid, int status);

  // The time by which Step has something to do, whether or not a child ends before.
  double next_step() const { return next_step_; }

  // Ends the helper that still runs, as the server has ended.
  void Abort();

  // The file with the output of the check; empty where there is none.
  std::string check_output() const { return launch_.directory + "/check"; }

 private:
  enum class State { kStarting, kLoaded, kChecked, kOver };

  bool Start(const std::vector<std::string>& command, pid_t server, const std::string& output);
  bool Fail(const std::string& what);
  void BeginLoad(pid_t server);
  void EndLoad(pid_t server);

  const Launch& launch_;
  Outcome& outcome_;
  State state_ = State::kStarting;
  pid_t server_ = 0;
  pid_t helper_ = 0;  // 0: none runs
  int helper_status_ = 0;
  bool helper_ended_ = false;
  double started_ = 0;
  double next_step_ = 0;
  double load_started_ = 0;
  Usage before_;
};

}  // namespace tarn::tool
