// SPDX-License-Identifier: Apache-2.0
//
// tarn/monitor.h: a program's own monitor. It serves the pages of `tarn serve` about the program that it is in:
// /metrics, /health, /debug/pprof/ (see docs/monitor.md), and raises the same alerts.
//
//   tarn::Monitor monitor;                                 // http://127.0.0.1:9464, until the end of its scope
//   tarn::Monitor monitor({.listen = "0.0.0.0:9464"});
//
// For programs in C++17 and later that run on tarn: linked with tarn::tarn or tarn::tarn_static, or started with the
// preload. Link with tarn::monitor (libtarn_monitor.so) beside it. `tarn serve` does the same from outside, without a
// line of code, and without what this takes in the program: eight threads, some MiB, and after the first profile the
// debug information that it read.
//
// Threads. All functions may be called by any thread. A monitor has some threads of its own, called tarn-monitor and
// tarn-http; they block all signals, so that the program's handlers run on the program's threads. They allocate like
// others, so their objects are among those that the pages show.
//
// fork. Its child has no monitor: nothing listens there, the object answers with nothing, and may be destroyed. A child
// that wants a monitor makes one, at another address.
//
// Errors. Constructors throw std::runtime_error with a sentence that says what to do: the program does not run on tarn,
// the address is taken or not ours, an option has a value that makes no sense. Nothing else throws but std::bad_alloc.
#ifndef TARN_MONITOR_H
#define TARN_MONITOR_H

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace tarn {

struct MonitorOptions {
  // ADDRESS:PORT with a numeric address, a port alone (127.0.0.1), or unix:PATH. Port 0 is any free one; url() tells
  // which.
  std::string listen = "127.0.0.1:9464";
  // Further names by which the server may be called, in the header Host. Loopback names and the address always may.
  std::vector<std::string> allow_hosts;
  // Between two looks, on which rates and alerts rest: 100 ms to 1 h.
  std::chrono::milliseconds interval = std::chrono::seconds(5);
  // The window in which steady growth is a leak: 1 s to a week.
  std::chrono::milliseconds leak_window = std::chrono::minutes(10);
  // Of alerts, by name, as {"heap_mb", 2000}; infinity turns one off. Those that are not named keep their own (500 for
  // heap_mb). MB are MiB.
  std::map<std::string, double> thresholds;
  // Lets POST /control/release and /control/limit change something.
  bool allow_control = false;
  // Gets a line for each alert that begins or ends, "ALERT: heap_mb = 612.00 exceeds threshold 500.00", and for each
  // change by request, without a newline. Runs on threads of the monitor, also on two at once; it must not throw. Null:
  // lines go to stderr.
  std::function<void(std::string_view line)> log;
};

struct MonitorAlert {
  std::string name;
  double value;  // the latest
  double threshold;
};

class __attribute__((visibility("default"))) Monitor {
 public:
  // Listens and answers when it returns.
  explicit Monitor(const MonitorOptions& options = {});
  // Ends the threads; an answer that is under way is cut off.
  ~Monitor();
  Monitor(const Monitor&) = delete;
  Monitor& operator=(const Monitor&) = delete;

  // "http://127.0.0.1:9464", with the port that was found; "unix:/run/program.sock".
  const std::string& url() const;

  // The content of /metrics in JSON, as of now: {"timestamp": RFC 3339, "metrics": {"heap_mb": ...}, "alerts": [...]}.
  std::string MetricsJson() const;

  // The alerts that are on, as of the last look.
  std::vector<MonitorAlert> alerts() const;

 private:
  class __attribute__((visibility("hidden"))) Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tarn

#endif
