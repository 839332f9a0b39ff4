// tarn serve: /metrics, /health and /debug/pprof of a process, from outside of it.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "tools/tarn/console.h"
#include "tools/tarn/launch.h"
#include "tools/tarn/monitor/listen.h"
#include "tools/tarn/monitor/monitor.h"
#include "tools/tarn/monitor/server.h"
#include "tools/tarn/monitor/settings.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

// How soon a process is looked for again while there is none: quickly at first, because a program that was just started
// needs some milliseconds until it allocates.
constexpr double kFirstSearchSeconds = 0.02;
constexpr double kLaterSearchSeconds = 1;
// A process that executes another program cannot be read for a moment.
constexpr double kExecSeconds = 2;

struct ServeOptions {
  std::string pid;
  bool run = false;
  std::string name;
  std::string pid_file;
  std::string listen;
  std::vector<std::string> allow_hosts;
  std::string config;
  double interval_s = 0;  // 0: not given
  std::vector<std::string> thresholds;
  LaunchOptions launch;
};

// SIGINT, SIGTERM and the end of a child as something to wait for. Made before all threads, which inherit its mask.
class Signals {
 public:
  Signals() {
    sigset_t set;
    sigemptyset(&set);
    for (const int number : {SIGINT, SIGTERM, SIGCHLD}) sigaddset(&set, number);
    sigprocmask(SIG_BLOCK, &set, &before_);
    fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~Signals() {
    close(fd_);
    sigprocmask(SIG_SETMASK, &before_, nullptr);
  }
  Signals(const Signals&) = delete;
  Signals& operator=(const Signals&) = delete;

  int fd() const { return fd_; }
  // For a child, which is to have the mask that we were given.
  void Restore() const { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  // False when none has come.
  bool Take(signalfd_siginfo* info) const { return read(fd_, info, sizeof *info) == sizeof *info; }

 private:
  sigset_t before_;
  int fd_;
};

// Starts the command beside us; throws ToolError if it cannot be executed.
pid_t StartCommand(const std::string& program, const std::vector<std::string>& command, const Signals& signals) {
  int failure[2];
  if (pipe2(failure, O_CLOEXEC) != 0) throw ToolError(fmt::format("no pipe: {}", strerror(errno)));
  const pid_t child = fork();
  if (child == 0) {
    signals.Restore();
    Execute(program, command);
    const int error = errno;
    static_cast<void>(!write(failure[1], &error, sizeof error));
    _exit(kExitNotExecutable);
  }
  const int fork_error = errno;
  close(failure[1]);
  int error = 0;
  // The other end closes without a word when the program is executed.
  const bool failed = child > 0 && read(failure[0], &error, sizeof error) == sizeof error;
  close(failure[0]);
  if (child < 0) throw ToolError(fmt::format("no process for the command: {}", strerror(fork_error)));
  if (!failed) return child;
  waitpid(child, nullptr, 0);
  throw ToolError(fmt::format("cannot execute {}: {}", program, strerror(error)), ExitCodeOfExecute(error));
}

// Readable when the process ends; -1 where the kernel has no such thing (before 5.3).
class ProcessEnd {
 public:
  explicit ProcessEnd(pid_t pid) : fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}
  ~ProcessEnd() {
    if (fd_ >= 0) close(fd_);
  }
  ProcessEnd(const ProcessEnd&) = delete;
  ProcessEnd& operator=(const ProcessEnd&) = delete;
  int fd() const { return fd_; }

 private:
  int fd_;
};

class Serving {
 public:
  Serving(Watched* watched, Monitor* monitor, const Signals& signals, double interval_s, pid_t child)
      : watched_(watched), monitor_(monitor), signals_(signals), interval_s_(interval_s), child_(child) {}

  // Until the process has ended for good, or a signal ends us. Returns the exit code.
  int Run(const Invocation& invocation) {
    double search_s = kFirstSearchSeconds;
    auto absent_since = Clock::now();
    bool was_there = true;
    bool is_first = true;
    while (true) {
      double wait_s = interval_s_;
      if (monitor_->Tick()) {
        // The first rates soon after the start.
        if (is_first) wait_s = std::min(interval_s_, 1.0);
        is_first = false;
        was_there = true;
        search_s = kFirstSearchSeconds;
      } else {
        if (was_there) absent_since = Clock::now();
        was_there = false;
        const double absent_s = std::chrono::duration<double>(Clock::now() - absent_since).count();
        // A child that does not use tarn is served, too: its end is what we wait for.
        if (!watched_->has_next() && child_ == 0) {
          const int code = watched_->absence_code();
          if (code == kExitNotTarn && absent_s > kExecSeconds) throw ToolError(watched_->absence(), code);
          // Looked for once more at least, for it may only have executed another program.
          if (code != kExitNotTarn && absent_s >= kFirstSearchSeconds) {
            Note(invocation, "serve: the process has ended");
            return kExitOk;
          }
        }
        wait_s = search_s;
        search_s = std::min(2 * search_s, kLaterSearchSeconds);
      }
      if (const int code = Wait(wait_s); code >= 0) return code;
    }
  }

 private:
  using Clock = std::chrono::steady_clock;

  // The exit code if it is over, or -1.
  int Wait(double seconds) {
    const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
    const std::shared_ptr<Life> life = watched_->current();
    const ProcessEnd process_end(life != nullptr ? life->target.pid() : -1);
    while (true) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
      if (left <= 0) return -1;
      pollfd events[] = {{signals_.fd(), POLLIN, 0}, {process_end.fd(), POLLIN, 0}};
      if (poll(events, std::size(events), static_cast<int>(std::min<std::int64_t>(left, 60'000))) <= 0) continue;
      signalfd_siginfo info;
      while (signals_.Take(&info)) {
        if (const int code = Handle(info); code >= 0) return code;
      }
      if (events[1].revents != 0) {
        // A zombie still has to be waited for; the signal of that comes right after.
        if (child_ == 0) return -1;
        pollfd signal{signals_.fd(), POLLIN, 0};
        poll(&signal, 1, 100);
        if (signal.revents == 0) return -1;
      }
    }
  }

  int Handle(const signalfd_siginfo& info) {
    const auto number = static_cast<int>(info.ssi_signo);
    if (number != SIGCHLD) {
      if (child_ == 0) return kExitOk;
      // The command decides, and we end with it. What a terminal sends reaches it without us.
      if (info.ssi_code != SI_KERNEL) kill(child_, number);
      return -1;
    }
    int status = 0;
    if (child_ == 0 || waitpid(child_, &status, WNOHANG) != child_) return -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

  Watched* watched_;
  Monitor* monitor_;
  const Signals& signals_;
  double interval_s_;
  pid_t child_;
};

MonitorSettings SettingsOf(const ServeOptions& options) {
  MonitorSettings settings;
  if (!options.config.empty()) ApplySettingsFile(options.config, &settings);
  if (!options.listen.empty()) settings.listen = options.listen;
  if (settings.listen.empty()) settings.listen = kDefaultListen;
  if (options.interval_s > 0) settings.interval_s = options.interval_s;
  for (const std::string& host : options.allow_hosts) settings.allow_hosts.push_back(host);
  for (const std::string& threshold : options.thresholds) ApplyThreshold(threshold, &settings.alerts);
  return settings;
}

int RunServe(const ServeOptions& options, const Invocation& invocation) {
  const bool runs = options.run || !invocation.command.empty();
  const int ways = (runs ? 1 : 0) + (options.pid.empty() ? 0 : 1) + (options.name.empty() ? 0 : 1) +
                   (options.pid_file.empty() ? 0 : 1);
  if (ways != 1) throw UsageError("one process is to be named: PID, --name NAME, --pid-file FILE, or --run -- COMMAND");
  if (runs && invocation.command.empty())
    throw UsageError("no command; it goes behind --, as in: tarn serve --run -- ./server");
  if (!runs && (!options.launch.library.empty() || !options.launch.settings.empty()))
    throw UsageError("--library and --set are for a command that is started here (--run)");
  const MonitorSettings settings = SettingsOf(options);
  const ListenAddress address = ParseListenAddress(settings.listen);

  const Signals signals;
  std::string program;
  if (runs) program = PrepareLaunch(options.launch, invocation.command, "serve");
  std::unique_ptr<Watched> watched;
  if (!options.pid.empty()) {
    watched = std::make_unique<Watched>(Watched::By::kPid, options.pid);
    ParsePid(options.pid);
    if (watched->Find() == nullptr) throw ToolError(watched->absence(), watched->absence_code());
  }
  if (!options.name.empty()) watched = std::make_unique<Watched>(Watched::By::kName, options.name);
  if (!options.pid_file.empty()) watched = std::make_unique<Watched>(Watched::By::kPidFile, options.pid_file);

  // The server listens before the command starts, so that a port that is taken costs no start and end of it.
  std::unique_ptr<Monitor> monitor;
  HttpServer server(address, HostRule(address, settings.allow_hosts),
                    [&monitor](const HttpRequest& request) { return monitor->Answer(request); });
  pid_t child = 0;
  if (runs) {
    child = StartCommand(program, invocation.command, signals);
    watched = std::make_unique<Watched>(Watched::By::kPid, std::to_string(child));
  }
  const auto log = [&invocation](std::string_view line) {
    // Alerts as they are in the programs that people know; other lines as messages of ours.
    if (line.starts_with("ALERT")) {
      fmt::print(stderr, "{}\n", line);
    } else {
      Note(invocation, fmt::format("serve: {}", line));
    }
  };
  monitor = std::make_unique<Monitor>(watched.get(), settings, log);
  server.Start();
  Note(invocation, fmt::format("serve: {}", server.url()));
  if (!address.is_loopback())
    Note(invocation, "serve: whoever reaches this address may read the figures and profiles of the process");
  const int code = Serving(watched.get(), monitor.get(), signals, settings.interval_s, child).Run(invocation);
  // Before what its pages use.
  server.Stop();
  return code;
}

Prepared PrepareServe() {
  auto o = std::make_shared<ServeOptions>();
  return {
      {{"[PID]", "PID", "a process that uses tarn", &o->pid},
       {"--run", "", "start the command behind -- on tarn, serve it, and end with it", &o->run},
       {"--name", "NAME", "the oldest process of this name, and after its end the next one", &o->name},
       {"--pid-file", "FILE", "the process whose number is in a file, and after its end the next one", &o->pid_file},
       {"--listen", "ADDRESS", "ADDRESS:PORT or unix:PATH (127.0.0.1:9464); port 0 is any free one", &o->listen},
       {"--allow-host", "NAME", "a name by which the server may be called; may be repeated", &o->allow_hosts},
       {"--config", "FILE", "settings in JSON (docs/monitor.md)", &o->config},
       {"--interval", "SECONDS", "between two looks for rates and alerts (5)", &o->interval_s, 0.1, 3600},
       {"--threshold", "NAME=VALUE", "of an alert, as heap_mb=2000 or pause_ms=off; may be repeated", &o->thresholds},
       {"--library", "PATH", "with --run: the libtarn.so to preload", &o->launch.library},
       {"--set", "NAME=VALUE", "with --run: a setting for the command; may be repeated", &o->launch.settings}},
      [o](const Invocation& invocation) { return RunServe(*o, invocation); }};
}

}  // namespace

extern const Verb kServeVerb;
const Verb kServeVerb = {
    .name = "serve",
    .summary = "serve metrics, health and profiles of a process over HTTP",
    .examples = {{"tarn serve 4711", "/metrics, /health and /debug/pprof/ at http://127.0.0.1:9464"},
                 {"tarn serve --run -- ./server --port 8080", "run a program on tarn and serve it"},
                 {"tarn serve --name redis-server --listen unix:/run/tarn.sock", "also after its restarts"},
                 {"go tool pprof http://127.0.0.1:9464/debug/pprof/heap", "look at the live heap"}},
    .details =
        "Nothing runs in the process that is watched: its memory is read from outside, at each request and every "
        "interval.\n"
        "Alerts are written to stderr and turn /health to 503: heap_mb (500), alloc_rate_mb_sec (50), pause_ms (100), "
        "leak_mb_hour (60), returned_mb_sec (200), limit_percent (90), fragmentation_percent (50), stall_ms_sec "
        "(500).\n"
        "It ends with the process; with --name and --pid-file it waits for the next one, and answers 503 meanwhile. "
        "With "
        "--run the exit code is the command's own.",
    .takes_command = true,
    .needs_command = false,
    .writes_result = false,
    .prepare = PrepareServe,
};

}  // namespace tarn::tool
