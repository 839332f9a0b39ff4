// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/runner.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "tools/tarn/compare/sha256.h"
#include "tools/tarn/program.h"
#include "tools/tarn/usable_cpus.h"

namespace tarn::tool {

namespace {

// What a silent process may still use: a timer that ticks is no work.
constexpr double kSilentCpuShare = 0.02;
constexpr double kEndGraceSeconds = 2;
constexpr std::size_t kStderrTailBytes = 600;

bool interrupted = false;

double Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

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

// A figure of /proc/PID/status in bytes, 0 where there is none.
std::uint64_t StatusBytes(const std::string& process, const std::string& name) {
  std::ifstream file("/proc/" + process + "/status");
  std::string line;
  while (std::getline(file, line)) {
    if (line.starts_with(name + ":")) return std::stoull(line.substr(name.size() + 1)) * 1024;
  }
  return 0;
}

std::uint64_t RssBytes(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/statm", pid));
  std::uint64_t size = 0;
  std::uint64_t resident = 0;
  if (!(file >> size >> resident)) return 0;
  static const auto page_bytes = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return resident * page_bytes;
}

std::vector<std::string> ExecutableMappings(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/maps", pid));
  std::vector<std::string> paths;
  std::string line;
  while (std::getline(file, line)) {
    const std::size_t rights = line.find(' ');
    const std::size_t path = line.find('/');
    if (rights == std::string::npos || path == std::string::npos || line.compare(rights + 3, 1, "x") != 0) continue;
    paths.push_back(line.substr(path));
  }
  return paths;
}

// Time on CPUs so far, of all its threads.
double CpuSeconds(pid_t pid) {
  clockid_t clock;
  timespec time;
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return 0;
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

// Whether one of its threads runs, waits for a CPU, or waits for a disk. On a busy machine a process can use hardly any
// CPU and be far from silent.
bool IsAtWork(pid_t pid) {
  std::error_code error;
  for (const auto& thread : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), error)) {
    std::ifstream file(thread.path() / "stat");
    std::string line;
    // The name in brackets may hold anything; behind it comes the state.
    if (!std::getline(file, line)) continue;
    const std::size_t state = line.rfind(')') + 2;
    if (state < line.size() && (line[state] == 'R' || line[state] == 'D')) return true;
  }
  return false;
}

std::string TailOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  file.seekg(0, std::ios::end);
  const auto size = static_cast<std::size_t>(std::max<std::streamoff>(0, file.tellg()));
  file.seekg(static_cast<std::streamoff>(size - std::min(size, kStderrTailBytes)));
  content << file.rdbuf();
  std::string tail = content.str();
  while (!tail.empty() && tail.back() == '\n') tail.pop_back();
  return tail;
}

// The processes whose parent is this one: orphans of the command, as we are their subreaper.
std::vector<pid_t> OurChildren() {
  std::vector<pid_t> children;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) continue;
    std::ifstream file(entry.path() / "stat");
    std::string line;
    if (!std::getline(file, line)) continue;
    // The name in brackets may hold anything; behind it come the state and the parent.
    std::stringstream rest(line.substr(line.rfind(')') + 1));
    char state = 0;
    pid_t parent = 0;
    if (rest >> state >> parent && parent == getpid()) children.push_back(std::stoi(name));
  }
  return children;
}

[[noreturn]] void Exec(const Launch& launch, int go, int failed, const std::string& out, const std::string& err) {
  // Its own process group: an interrupt at the terminal comes to us, and we end it.
  setpgid(0, 0);
  const auto open_as = [](const char* path, int flags, int target) {
    const int file = open(path, flags, 0600);
    return file >= 0 && dup2(file, target) >= 0;
  };
  const bool ready = open_as("/dev/null", O_RDONLY | O_CLOEXEC, 0) &&
                     open_as(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 1) &&
                     open_as(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 2);
  if (ready && !launch.cpus.empty()) UsableCpus(launch.cpus).Apply();
  std::vector<char*> arguments = Pointers(launch.command);
  std::vector<char*> environment = Pointers(launch.environment);
  for (const int number : {SIGPIPE, SIGINT, SIGTERM}) signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  char byte;
  // Nothing to read: our parent has died.
  if (read(go, &byte, 1) != 1) _exit(1);
  if (ready) execve(launch.program.c_str(), arguments.data(), environment.data());
  const int error = errno;
  if (write(failed, &error, sizeof(error)) < 0) _exit(1);
  _exit(1);
}

// A run under way.
class Watch {
 public:
  Watch(const Launch& launch, Outcome* outcome) : launch_(launch), outcome_(*outcome) {}

  void Run() {
    const std::string out = launch_.directory + "/stdout";
    const std::string err = launch_.directory + "/stderr";
    int go[2];
    int failed[2];
    if (pipe2(go, O_CLOEXEC) != 0 || pipe2(failed, O_CLOEXEC) != 0) return Fail("no pipe", errno);
    own_peak_ = StatusBytes("self", "VmHWM");
    process_ = fork();
    if (process_ < 0) return Fail("cannot fork", errno);
    if (process_ == 0) {
      close(go[1]);
      close(failed[0]);
      Exec(launch_, go[0], failed[1], out, err);
    }
    close(go[0]);
    close(failed[1]);
    setpgid(process_, process_);
    outcome_.traced = launch_.trace && ptrace(PTRACE_SEIZE, process_, nullptr, PTRACE_O_TRACEEXIT) == 0;
    started_ = Now();
    const bool told = write(go[1], "x", 1) == 1;
    close(go[1]);
    // Ends when exec has closed the other side, so that no sample shows what is still a copy of this process.
    int error = told ? 0 : errno;
    while (told && read(failed[0], &error, sizeof(error)) < 0 && errno == EINTR) continue;
    close(failed[0]);
    if (error != 0) {
      while (Reap(), !ended_) WaitForSignal(0.05);
      return Fail("cannot execute " + launch_.program, error);
    }
    WatchIt();
    EndWhatIsLeft();
    outcome_.rss = series_.points();
    outcome_.stdout_sha256 = FileSha256(out);
    outcome_.stderr_tail = TailOf(err);
  }

 private:
  void Fail(const std::string& what, int error) { outcome_.start_error = fmt::format("{}: {}", what, strerror(error)); }

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
      if (!outcome_.traced && now - started_ >= next_look) {
        Look();
        next_look = 2 * (now - started_);
      }
      if (interrupted && end_deadline == 0) {
        outcome_.interrupted = true;
        kill(-process_, SIGTERM);
        end_deadline = now + kEndGraceSeconds;
      }
      if (end_deadline != 0 && now > end_deadline) kill(-process_, SIGKILL);
      double until = std::min(started_ + next_sample, now + 0.1);
      if (!outcome_.traced) until = std::min(until, started_ + next_look);
      WaitForSignal(std::max(0.0, until - Now()));
    }
  }

  void Sample(double seconds) {
    const std::uint64_t bytes = RssBytes(process_);
    if (bytes == 0) return;
    series_.Add(seconds, bytes);
    outcome_.end_rss_bytes = bytes;
    if (!outcome_.traced) peak_ = std::max(peak_, StatusBytes(std::to_string(process_), "VmHWM"));
  }

  void Look() {
    std::vector<std::string> mapped = ExecutableMappings(process_);
    if (mapped.empty()) return;
    outcome_.mapped = std::move(mapped);
    std::error_code error;
    outcome_.executable = std::filesystem::read_symlink(fmt::format("/proc/{}/exe", process_), error);
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
      AddUsage(usage);
      if (pid != process_) continue;
      ended_ = true;
      outcome_.wall_s = Now() - started_ - stopped_s_;
      if (outcome_.idle_ended) outcome_.wall_s = idle_wall_;
      outcome_.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
      outcome_.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
      // Linux hands the peak of whoever forked on to the program that is executed, so a peak that is not above our
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
      peak_ = std::max(peak_, StatusBytes(std::to_string(pid), "VmHWM"));
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
