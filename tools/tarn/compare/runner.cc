// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/runner.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fstream>
#include <set>
#include <sstream>

#include "tools/inspect/process_status.h"
#include "tools/tarn/compare/child.h"
#include "tools/tarn/compare/process_figures.h"
#include "tools/tarn/compare/service_run.h"
#include "tools/tarn/compare/sha256.h"
#include "tools/tarn/compare/words.h"

namespace tarn::tool {

namespace {

// The CPU share that a silent process may still use: a timer that ticks does not count as work.
constexpr double kSilentCpuShare = 0.02;
constexpr double kEndGraceSeconds = 2;
// A server may have something to write down.
constexpr double kServerEndGraceSeconds = 10;
// The longest pause between two looks for the process that is watched.
constexpr double kMaxLookPauseSeconds = 0.05;

bool interrupted = false;

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
}

sigset_t WatchedSignals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

// A run under way.
class Watch {
 public:
  Watch(const Launch& launch, Outcome* outcome) : launch_(launch), outcome_(*outcome), service_(launch, outcome) {}

  void Run() {
    const std::string out = launch_.directory + "/stdout";
    const std::string err = launch_.directory + "/stderr";
    own_peak_ = StatusBytes(getpid(), "VmHWM");
    for (const std::string& path : launch_.outputs) unlink(path.c_str());
    int error = 0;
    process_ = StartChild({.program = launch_.program,
                           .command = launch_.command,
                           .environment = launch_.environment,
                           .cpus = launch_.cpus,
                           .working_directory = launch_.working_directory,
                           .input = launch_.input,
                           .output = out,
                           .error = err},
                          &error, [this](pid_t pid) {
                            outcome_.traced =
                                launch_.trace && ptrace(PTRACE_SEIZE, pid, nullptr, PTRACE_O_TRACEEXIT) == 0;
                            started_ = Now();
                          });
    if (process_ < 0) return Fail("cannot start a process", errno);
    if (error != 0) {
      while (Reap(), !ended_) WaitForSignal(0.05);
      return Fail("cannot execute " + launch_.program, error);
    }
    WatchIt();
    service_.Abort();
    EndWhatIsLeft();
    outcome_.rss = series_.points();
    outcome_.output_sha256 = OutputSha256(out);
    outcome_.stderr_tail = TailOf(err);
  }

 private:
  void Fail(const std::string& what, int error) { outcome_.start_error = fmt::format("{}: {}", what, strerror(error)); }

  // Of stdout alone, or of all that belongs to the output.
  std::string OutputSha256(const std::string& out) const {
    std::vector<std::string> files = {out};
    files.insert(files.end(), launch_.outputs.begin(), launch_.outputs.end());
    // The output of a server has times and process ids in it.
    if (service_.wanted()) files.front() = service_.check_output();
    return files.size() == 1 ? FileSha256(files.front()) : FilesSha256(files);
  }

  void WatchIt() {
    double next_sample = 0;  // at once: the shortest process is seen once, if it can be
    double silent_since = started_;
    double silent_cpu = 0;
    double end_deadline = 0;
    // The first looks at the maps come early and double, for short processes that are not traced.
    double next_look = 0.0005;
    while (!ended_) {
      Reap();
      if (ended_) break;
      const double now = Now();
      if (now - started_ >= next_sample) {
        Sample(now - started_);
        next_sample = now - started_ + launch_.rss_interval_s;
        if (launch_.idle_tail_s > 0 && end_deadline == 0) {
          const double cpu = CpuSeconds(process_);
          if (cpu - silent_cpu > kSilentCpuShare * std::max(now - silent_since, launch_.rss_interval_s) ||
              IsAtWork(process_)) {
            silent_since = now;
            silent_cpu = cpu;
          } else if (now - silent_since >= launch_.idle_tail_s) {
            outcome_.idle_ended = true;
            outcome_.idle_rss_bytes = RssBytes(process_);
            idle_wall_ = silent_since - started_;
            kill(-process_, SIGTERM);
            end_deadline = now + kEndGraceSeconds;
          }
        }
      }
      if (LooksEarly() && now - started_ >= next_look) {
        Look();
        next_look = 2 * (now - started_);
        if (!launch_.watch.empty()) next_look = std::min(next_look, now - started_ + kMaxLookPauseSeconds);
      }
      if (service_.wanted() && end_deadline == 0 && !service_.Step(now, process_)) {
        Look();
        outcome_.ended_by_us = true;
        kill(-process_, SIGTERM);
        end_deadline = now + kServerEndGraceSeconds;
      }
      if (launch_.timeout_s > 0 && end_deadline == 0 && now - started_ > launch_.timeout_s) {
        outcome_.failure = fmt::format("still running after {:.0f} s", launch_.timeout_s);
        kill(-process_, SIGTERM);
        end_deadline = now + kEndGraceSeconds;
      }
      if (launch_.end_s > 0 && end_deadline == 0 && now > launch_.end_s) {
        outcome_.cut_off = true;
        kill(-process_, SIGTERM);
        end_deadline = now + kEndGraceSeconds;
      }
      if (interrupted && end_deadline == 0) {
        outcome_.interrupted = true;
        kill(-process_, SIGTERM);
        end_deadline = now + kEndGraceSeconds;
      }
      if (end_deadline != 0 && now > end_deadline) kill(-process_, SIGKILL);
      double until = std::min(started_ + next_sample, now + 0.1);
      if (LooksEarly()) until = std::min(until, started_ + next_look);
      if (service_.wanted()) until = std::min(until, service_.next_step());
      WaitForSignal(std::max(0.0, until - Now()));
    }
  }

  void Sample(double seconds) {
    const std::uint64_t bytes = RssBytes(process_);
    if (bytes == 0) return;
    series_.Add(seconds, bytes);
    outcome_.end_rss_bytes = bytes;
    if (!outcome_.traced) peak_ = std::max(peak_, StatusBytes(process_, "VmHWM"));
  }

  // A process that is not traced may end unseen, and so may the one that is watched.
  bool LooksEarly() const { return !outcome_.traced || (!launch_.watch.empty() && outcome_.use.owners.empty()); }

  void Look() {
    if (launch_.watch.empty()) return LookAt(process_);
    if (!outcome_.use.owners.empty()) return;
    for (const pid_t pid : GroupMembers(process_, launch_.watch)) LookAt(pid);
  }

  void LookAt(pid_t pid) {
    MallocUse use = LookAtMalloc(pid);
    if (!use.mapped.empty()) outcome_.use = std::move(use);
  }

  static void WaitForSignal(double seconds) {
    const timespec timeout = {static_cast<time_t>(seconds),
                              static_cast<long>((seconds - static_cast<double>(static_cast<time_t>(seconds))) * 1e9)};
    const sigset_t set = WatchedSignals();
    const int number = sigtimedwait(&set, nullptr, &timeout);
    if (number == SIGINT || number == SIGTERM) interrupted = true;
  }

  // Takes all that waitpid has to tell.
  void Reap() {
    while (true) {
      int status = 0;
      rusage usage{};
      const pid_t pid = wait4(-1, &status, WNOHANG | __WALL, &usage);
      if (pid <= 0) return;
      if (WIFSTOPPED(status)) {
        Continue(pid, status);
        continue;
      }
      if (service_.Took(pid, status)) continue;
      if (!service_.wanted()) AddUsage(usage);
      if (pid != process_) continue;
      ended_ = true;
      outcome_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      outcome_.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
      if (service_.wanted()) return;
      outcome_.wall_s = Now() - started_ - stopped_s_;
      if (outcome_.idle_ended) outcome_.wall_s = idle_wall_;
      // Linux hands the peak of the process that forked on to the executed program, so a peak that is not above our
      // own is ours; then the process's own counter has to do.
      const auto peak = static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
      outcome_.peak_rss_bytes = peak > own_peak_ ? std::max(peak, peak_) : peak_;
      return;
    }
  }

  // A traced process has stopped: at its exit, or because a signal is on its way.
  void Continue(pid_t pid, int status) {
    const int event = status >> 16;
    const int number = WSTOPSIG(status);
    if (event == PTRACE_EVENT_EXIT) {
      const double stopped_at = Now();
      Look();
      if (const std::uint64_t bytes = RssBytes(pid); bytes != 0) {
        outcome_.end_rss_bytes = bytes;
        series_.Add(stopped_at - started_, bytes);
      }
      peak_ = std::max(peak_, StatusBytes(pid, "VmHWM"));
      stopped_s_ += Now() - stopped_at;
      ptrace(PTRACE_CONT, pid, nullptr, 0);
    } else if (event == PTRACE_EVENT_STOP) {
      // A job-control stop, which LISTEN leaves in force until SIGCONT.
      const bool stops = number == SIGSTOP || number == SIGTSTP || number == SIGTTIN || number == SIGTTOU;
      ptrace(stops ? PTRACE_LISTEN : PTRACE_CONT, pid, nullptr, 0);
    } else {
      ptrace(PTRACE_CONT, pid, nullptr, static_cast<long>(number));
    }
  }

  // The usage of one process that ended, and of those it has waited for.
  void AddUsage(const rusage& usage) {
    outcome_.user_s += Seconds(usage.ru_utime);
    outcome_.system_s += Seconds(usage.ru_stime);
    outcome_.minor_faults += static_cast<std::uint64_t>(usage.ru_minflt);
    outcome_.major_faults += static_cast<std::uint64_t>(usage.ru_majflt);
    outcome_.context_switches += static_cast<std::uint64_t>(usage.ru_nvcsw + usage.ru_nivcsw);
  }

  // Processes that the command left running would disturb the next run.
  void EndWhatIsLeft() {
    while (true) {
      Reap();
      const std::vector<pid_t> children = OurChildren();
      if (children.empty()) return;
      for (const pid_t child : children) {
        if (kill(child, SIGKILL) == 0) killed_.insert(child);
      }
      outcome_.left_behind = static_cast<int>(killed_.size());
      WaitForSignal(0.01);
    }
  }

  const Launch& launch_;
  Outcome& outcome_;
  ServiceRun service_;
  pid_t process_ = 0;
  double started_ = 0;
  double stopped_s_ = 0;
  double idle_wall_ = 0;
  std::uint64_t own_peak_ = 0;
  std::uint64_t peak_ = 0;
  bool ended_ = false;
  RssSeries series_;
  std::set<pid_t> killed_;
};

}  // namespace

void PrepareToRun() {
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  const sigset_t set = WatchedSignals();
  sigprocmask(SIG_BLOCK, &set, nullptr);
  // A caller may have left it ignored, and then nothing could be waited for.
  signal(SIGCHLD, SIG_DFL);
}

bool WasInterrupted() { return interrupted; }

Outcome RunOnce(const Launch& launch) {
  Outcome outcome;
  Watch(launch, &outcome).Run();
  return outcome;
}

}  // namespace tarn::tool
