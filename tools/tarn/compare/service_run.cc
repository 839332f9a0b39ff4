// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/service_run.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "tools/inspect/process_status.h"
#include "tools/tarn/compare/child.h"
#include "tools/tarn/compare/words.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

constexpr double kReadySeconds = 60;
constexpr double kReadyPauseSeconds = 0.02;

std::string InWords(int status) {
  if (WIFSIGNALED(status)) return fmt::format("was ended by signal {}", WTERMSIG(status));
  return fmt::format("ended with exit code {}", WEXITSTATUS(status));
}

}  // namespace

int FreePort() {
  const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  const bool known = bind(probe, generic, size) == 0 && getsockname(probe, generic, &size) == 0;
  close(probe);
  if (!known) throw ToolError(fmt::format("no TCP port of 127.0.0.1 is available: {}", strerror(errno)));
  return ntohs(address.sin_port);
}

bool ServiceRun::Step(double now, pid_t server) {
  if (state_ == State::kOver) return false;
  if (started_ == 0) started_ = now;
  next_step_ = now + 1;
  if (helper_ != 0) return true;
  if (state_ == State::kStarting) {
    if (helper_ended_ && helper_status_ == 0) {
      BeginLoad(server);
      return Start(launch_.service.load, server, launch_.directory + "/load");
    }
    if (now - started_ > kReadySeconds) {
      outcome_.not_ready = true;
      return Fail(fmt::format("it does not serve after {:.0f} s", kReadySeconds));
    }
    if (helper_ended_) {
      helper_ended_ = false;
      next_step_ = now + kReadyPauseSeconds;
      return true;
    }
    return Start(launch_.service.ready, server, launch_.directory + "/ready");
  }
  if (helper_status_ != 0) {
    const std::string detail = TailOf(launch_.directory + "/helper_stderr");
    return Fail(fmt::format("the {} {}{}{}", state_ == State::kLoaded ? "load" : "check", InWords(helper_status_),
                            detail.empty() ? "" : ": ", detail.substr(detail.rfind('\n') + 1)));
  }
  if (state_ == State::kLoaded && !launch_.service.check.empty()) {
    state_ = State::kChecked;
    return Start(launch_.service.check, server, check_output());
  }
  state_ = State::kOver;
  return false;
}

bool ServiceRun::Took(pid_t pid, int status) {
  if (helper_ == 0 || pid != helper_) return false;
  if (state_ == State::kLoaded) EndLoad(server_);
  helper_ = 0;
  helper_status_ = status;
  helper_ended_ = true;
  next_step_ = 0;
  return true;
}

void ServiceRun::Abort() {
  if (!wanted()) return;
  if (state_ != State::kOver && outcome_.failure.empty() && !outcome_.interrupted && !outcome_.cut_off) {
    outcome_.not_ready = state_ == State::kStarting;
    outcome_.failure = state_ == State::kStarting ? "it ended before it served" : "it ended under load";
  }
  state_ = State::kOver;
  if (helper_ == 0) return;
  kill(-helper_, SIGKILL);
  while (waitpid(helper_, nullptr, 0) < 0 && errno == EINTR) continue;
  helper_ = 0;
}

bool ServiceRun::Start(const std::vector<std::string>& command, pid_t server, const std::string& output) {
  server_ = server;
  ChildStart start;
  start.command = Replaced(command, {{"pid", std::to_string(server)}});
  start.program = start.command.front();
  start.environment = launch_.environment;
  std::erase_if(start.environment, [](const std::string& entry) { return entry.starts_with("LD_PRELOAD="); });
  start.working_directory = launch_.working_directory;
  start.output = output;
  start.error = launch_.directory + "/helper_stderr";
  helper_ended_ = false;
  int error = 0;
  helper_ = StartChild(start, &error, [](pid_t) {});
  if (helper_ < 0) {
    helper_ = 0;
    return Fail(fmt::format("cannot start {}: {}", start.program, strerror(errno)));
  }
  if (error != 0) return Fail(fmt::format("cannot execute {}: {}", start.program, strerror(error)));
  return true;
}

bool ServiceRun::Fail(const std::string& what) {
  outcome_.failure = what;
  state_ = State::kOver;
  return false;
}

void ServiceRun::BeginLoad(pid_t server) {
  state_ = State::kLoaded;
  before_ = UsageOf(server);
  load_started_ = Now();
}

void ServiceRun::EndLoad(pid_t server) {
  outcome_.wall_s = Now() - load_started_;
  const Usage after = UsageOf(server);
  const double cpu_s = after.cpu_s - before_.cpu_s;
  outcome_.system_s = std::min(after.system_s - before_.system_s, cpu_s);
  outcome_.user_s = cpu_s - outcome_.system_s;
  outcome_.minor_faults = after.minor_faults - before_.minor_faults;
  outcome_.major_faults = after.major_faults - before_.major_faults;
  outcome_.peak_rss_bytes = StatusBytes(server, "VmHWM");
}

}  // namespace tarn::tool
