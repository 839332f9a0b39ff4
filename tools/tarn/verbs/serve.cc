// SPDX-License-Identifier: Apache-2.0
//
// tarn serve: /metrics, /health and /debug/pprof of processes, from outside of them.
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
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tools/monitor/server/listen.h"
#include "tools/monitor/server/server.h"
#include "tools/monitor/settings.h"
#include "tools/monitor/targets.h"
#include "tools/tarn/console.h"
#include "tools/tarn/launch.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

// How soon a process is looked for again while there is none: quickly at first, because a program that was just started
// needs some milliseconds until it allocates.
constexpr double kFirstSearchSeconds = 0.02;
constexpr double kLaterSearchSeconds = 1;
// A process that executes another program cannot be read until that has allocated: a moment, on a busy machine seconds.
constexpr double kExecSeconds = 10;

struct ServeOptions {
  std::vector<std::string> pids;
  bool run = false;
  std::vector<std::string> names;
  std::vector<std::string> pid_files;
  std::string listen;
  std::vector<std::string> allow_hosts;
  std::string config;
  double interval_s = 0;  // 0: not given
  std::vector<std::string> thresholds;
  bool allow_control = false;
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

// Looks at all processes, each in its own time, until there is nothing more to look at.
class Serving {
 public:
  Serving(const Targets& targets, const Signals& signals, double interval_s, pid_t child, const Invocation& invocation)
      : signals_(signals), interval_s_(interval_s), child_(child), invocation_(invocation) {
    for (const auto& served : targets.all()) watches_.push_back({.served = served.get()});
  }

  // Until all processes have ended for good, or a signal ends us. Returns the exit code.
  int Run() {
    while (true) {
      for (Watch& watch : watches_)
        if (!watch.is_over && watch.due <= Clock::now()) Look(&watch);
      if (std::ranges::all_of(watches_, &Watch::is_over)) {
        if (complaint_) throw *complaint_;
        return kExitOk;
      }
      if (const int code = Wait(); code >= 0) return code;
    }
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Watch {
    Targets::Served* served = nullptr;
    Clock::time_point due{};  // of the next look
    double search_s = kFirstSearchSeconds;
    Clock::time_point absent_since{};
    bool was_there = true;
    bool is_first = true;
    bool is_over = false;  // no other process can come
  };

  static Clock::duration Seconds(double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }

  void Look(Watch* watch) {
    double wait_s = interval_s_;
    if (watch->served->monitor.Tick()) {
      // The first rates soon after the start.
      if (watch->is_first) wait_s = std::min(interval_s_, 1.0);
      watch->is_first = false;
      watch->was_there = true;
      watch->search_s = kFirstSearchSeconds;
    } else {
      if (watch->was_there) watch->absent_since = Clock::now();
      watch->was_there = false;
      // A child that does not use tarn is served, too: its end is what we wait for.
      if (!watch->served->watched.has_next() && child_ == 0) FindEnd(watch);
      wait_s = watch->search_s;
      watch->search_s = std::min(2 * watch->search_s, kLaterSearchSeconds);
    }
    watch->due = Clock::now() + Seconds(wait_s);
  }

  // Of one that is not there, and of which no next one can come.
  void FindEnd(Watch* watch) {
    const Watched& watched = watch->served->watched;
    const double absent_s = std::chrono::duration<double>(Clock::now() - watch->absent_since).count();
    const int code = watched.absence_code();
    if (code == kExitNotTarn) {
      watch->is_over = absent_s > kExecSeconds;
      if (watch->is_over) complaint_.emplace(watched.absence(), code);
      return;
    }
    // Looked for once more at least, for it may only have executed another program.
    watch->is_over = absent_s >= kFirstSearchSeconds;
    if (!watch->is_over) return;
    const std::string whose = watches_.size() > 1 ? watch->served->spec.label + ": " : "";
    Note(invocation_, fmt::format("serve: {}the process has ended", whose));
  }

  // Until a look is due, also for the end of a process. The exit code if it is over, or -1.
  int Wait() {
    auto due = Clock::time_point::max();
    std::deque<ProcessEnd> ends;
    std::vector<pollfd> events = {{signals_.fd(), POLLIN, 0}};
    for (const Watch& watch : watches_) {
      if (!watch.is_over) due = std::min(due, watch.due);
      const std::shared_ptr<Life> life = watch.served->watched.current();
      events.push_back({ends.emplace_back(life != nullptr ? life->target.pid() : -1).fd(), POLLIN, 0});
    }
    while (true) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(due - Clock::now()).count();
      if (left <= 0) return -1;
      if (poll(events.data(), events.size(), static_cast<int>(std::min<std::int64_t>(left, 60'000))) <= 0) continue;
      signalfd_siginfo info;
      while (signals_.Take(&info)) {
        if (const int code = Handle(info); code >= 0) return code;
      }
      bool has_end = false;
      for (std::size_t i = 0; i < watches_.size(); ++i) {
        if (events[i + 1].revents == 0) continue;
        watches_[i].due = Clock::now();
        has_end = true;
      }
      if (!has_end) continue;
      // A zombie still has to be waited for; the signal of that comes right after.
      if (child_ == 0) return -1;
      pollfd signal{signals_.fd(), POLLIN, 0};
      poll(&signal, 1, 100);
      if (signal.revents == 0) return -1;
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

  const Signals& signals_;
  double interval_s_;
  pid_t child_;
  const Invocation& invocation_;
  std::vector<Watch> watches_;
  std::optional<ToolError> complaint_;
};

MonitorSettings SettingsOf(const ServeOptions& options) {
  MonitorSettings settings;
  if (!options.config.empty()) ApplySettingsFile(options.config, &settings);
  if (!options.listen.empty()) settings.listen = options.listen;
  if (settings.listen.empty()) settings.listen = kDefaultListen;
  if (options.interval_s > 0) settings.interval_s = options.interval_s;
  for (const std::string& host : options.allow_hosts) settings.allow_hosts.push_back(host);
  for (const std::string& threshold : options.thresholds) ApplyThreshold(threshold, &settings.alerts);
  settings.allow_control |= options.allow_control;
  return settings;
}

// The processes that the command line names, or else the settings file; with labels.
std::vector<TargetSpec> TargetsOf(const ServeOptions& options, const MonitorSettings& settings) {
  std::vector<TargetSpec> targets;
  const auto add = [&targets](Watched::By by, const std::vector<std::string>& texts) {
    for (const std::string& text : texts) targets.push_back(ParseTargetSpec(by, text));
  };
  add(Watched::By::kPid, options.pids);
  add(Watched::By::kName, options.names);
  add(Watched::By::kPidFile, options.pid_files);
  if (targets.empty()) targets = settings.targets;
  GiveLabels(&targets);
  return targets;
}

int RunServe(const ServeOptions& options, const Invocation& invocation) {
  const bool runs = options.run || !invocation.command.empty();
  const bool names_others = !options.pids.empty() || !options.names.empty() || !options.pid_files.empty();
  if (runs && names_others) throw UsageError("--run serves the command alone; the others need a server of their own");
  if (runs && invocation.command.empty())
    throw UsageError("no command; it goes behind --, as in: tarn serve --run -- ./server");
  if (!runs && (!options.launch.library.empty() || !options.launch.settings.empty()))
    throw UsageError("--library and --set are for a command that is started here (--run)");
  const MonitorSettings settings = SettingsOf(options);
  const ListenAddress address = ParseListenAddress(settings.listen);
  std::vector<TargetSpec> specs;
  if (!runs) specs = TargetsOf(options, settings);
  if (!runs && specs.empty())
    throw UsageError("a process is to be named: PID, --name NAME, --pid-file FILE, or --run -- COMMAND");

  const Signals signals;
  std::string program;
  if (runs) program = PrepareLaunch(options.launch, invocation.command, "serve");
  const auto log = [&invocation](std::string_view line) {
    // Alerts as they are in the programs that people know; other lines as messages of ours.
    if (line.starts_with("ALERT")) {
      WriteStderr(fmt::format("{}\n", line));
    } else {
      Note(invocation, fmt::format("serve: {}", line));
    }
  };
  std::unique_ptr<Targets> targets;
  if (!runs) {
    targets = std::make_unique<Targets>(specs, settings, log);
    for (const auto& served : targets->all()) {
      Watched& watched = served->watched;
      // Looked for before the first page is asked for, which otherwise could not say why there is none.
      const bool is_there = watched.Find() != nullptr;
      if (!is_there && !watched.has_next()) throw ToolError(watched.absence(), watched.absence_code());
    }
  }

  // The server listens before the command starts, so that a port that is taken costs no start and end of it.
  HttpServer server(address, HostRule(address, settings.allow_hosts),
                    {.answer = [&targets](const HttpRequest& request) { return targets->Answer(request); },
                     .methods = [&targets](std::string_view path) { return targets->Methods(path); }});
  pid_t child = 0;
  if (runs) {
    child = StartCommand(program, invocation.command, signals);
    specs = {{Watched::By::kPid, std::to_string(child), ""}};
    GiveLabels(&specs);
    targets = std::make_unique<Targets>(specs, settings, log);
  }
  server.Start();
  Note(invocation, fmt::format("serve: {}", server.url()));
  if (!address.is_loopback())
    Note(invocation,
         fmt::format("serve: anyone who reaches this address may read the figures and profiles of the process{}",
                     settings.allow_control ? ", and change its limit" : ""));
  const int code = Serving(*targets, signals, settings.interval_s, child, invocation).Run();
  // Before what its pages use.
  server.Stop();
  return code;
}

Prepared PrepareServe() {
  auto o = std::make_shared<ServeOptions>();
  return {
      {{"[PID...]", "PID", "a process that uses tarn, or several; each also as LABEL=PID", &o->pids},
       {"--run", "", "start the command behind -- on tarn, serve it, and end with it", &o->run},
       {"--name", "NAME",
        "the oldest process of this name, and after its end the next one; also LABEL=NAME; may be repeated", &o->names},
       {"--pid-file", "FILE",
        "the process whose number is in a file, and after its end the next one; also LABEL=FILE; may be repeated",
        &o->pid_files},
       {"--listen", "ADDRESS", "ADDRESS:PORT or unix:PATH (127.0.0.1:9464); port 0 is any free one", &o->listen},
       {"--allow-host", "NAME", "a name by which the server may be called; may be repeated", &o->allow_hosts},
       {"--config", "FILE", "settings in JSON (docs/monitor.md)", &o->config},
       {"--interval", "SECONDS", "between two looks for rates and alerts (5)", &o->interval_s, 0.1, 3600},
       {"--threshold", "NAME=VALUE", "of an alert, as heap_mb=2000 or pause_ms=off; may be repeated", &o->thresholds},
       {"--allow-control", "", "POST /control/release and /control/limit may have the process do something",
        &o->allow_control},
       {"--library", "PATH", "with --run: the libtarn.so to preload", &o->launch.library},
       {"--set", "NAME=VALUE", "with --run: a setting for the command; may be repeated", &o->launch.settings}},
      [o](const Invocation& invocation) { return RunServe(*o, invocation); }};
}

}  // namespace

extern const Verb kServeVerb;
const Verb kServeVerb = {
    .name = "serve",
    .summary = "serve metrics, health and profiles of processes over HTTP",
    .examples = {{"tarn serve 4711", "/metrics, /health and /debug/pprof/ at http://127.0.0.1:9464"},
                 {"tarn serve --run -- ./server --port 8080", "run a program on tarn and serve it"},
                 {"tarn serve --name redis-server --listen unix:/run/tarn.sock", "also after its restarts"},
                 {"tarn serve web=4711 --name nginx", "several: /metrics of all, /targets/web/ the pages of one"},
                 {"go tool pprof http://127.0.0.1:9464/debug/pprof/heap", "look at the live heap"}},
    .details =
        "Nothing runs in the process that is watched: its memory is read from outside, at each request and every "
        "interval.\n"
        "Alerts are written to stderr and turn /health to 503: heap_mb (500), alloc_rate_mb_sec (50), pause_ms (100), "
        "leak_mb_hour (60), returned_mb_sec (200), limit_percent (90), fragmentation_percent (50), stall_ms_sec "
        "(500).\n"
        "It ends with the process, of several with the last; with --name and --pid-file it waits for the next one, and "
        "answers 503 until then. With --run the exit code is that of the command.\n"
        "With several processes each series has the label target, and /targets lists them. The label is the program's "
        "name, with a number where there are several of it, or what stands before the = of LABEL=NAME.",
    .takes_command = true,
    .needs_command = false,
    .writes_result = false,
    .prepare = PrepareServe,
};

}  // namespace tarn::tool
