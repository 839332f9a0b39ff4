// SPDX-License-Identifier: Apache-2.0
//
// tarn::Monitor: the monitor of `tarn serve`, in the process that it watches. It reads as from outside, by
// process_vm_readv on this process, so an address that is gone by then does no harm. Where that is refused, it reads
// /proc/self/mem.
#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "allocator/include/tarn/monitor.h"
#include "tools/base/error.h"
#include "tools/base/json_text.h"
#include "tools/monitor/pages/metrics.h"
#include "tools/monitor/server/listen.h"
#include "tools/monitor/server/server.h"
#include "tools/monitor/server/signals_blocked.h"
#include "tools/monitor/settings.h"
#include "tools/monitor/targets.h"

// Of libtarn.so, or of the program that tarn is linked into.
extern "C" __attribute__((weak)) std::uint32_t tarn_background_tick(void);

namespace tarn {

namespace {

// Listeners of the monitors that there are, -1 where there is none: the child of a fork closes them, or the port would
// stay taken as long as it lives. Of more monitors than places it does not.
constexpr int kListeners = 8;
std::atomic<int> listeners[kListeners] = {-1, -1, -1, -1, -1, -1, -1, -1};

void CloseListenersInForkedChild() {
  for (std::atomic<int>& place : listeners)
    if (const int fd = place.exchange(-1, std::memory_order_relaxed); fd >= 0) close(fd);
}

void RememberListener(int fd) {
  static const int registered = pthread_atfork(nullptr, nullptr, &CloseListenersInForkedChild);
  static_cast<void>(registered);
  for (std::atomic<int>& place : listeners) {
    int expected = -1;
    if (place.compare_exchange_strong(expected, fd, std::memory_order_relaxed)) return;
  }
}

void ForgetListener(int fd) {
  for (std::atomic<int>& place : listeners) {
    int expected = fd;
    if (place.compare_exchange_strong(expected, -1, std::memory_order_relaxed)) return;
  }
}

tool::MonitorSettings SettingsOf(const MonitorOptions& options) {
  using Seconds = std::chrono::duration<double>;
  tool::MonitorSettings settings;
  settings.listen = options.listen;
  settings.allow_hosts = options.allow_hosts;
  settings.interval_s = Seconds(options.interval).count();
  settings.alerts.leak_window_s = Seconds(options.leak_window).count();
  settings.allow_control = options.allow_control;
  // A program that does nothing but wait would not come to a request.
  settings.nudge = [] {
    if (tarn_background_tick != nullptr) tarn_background_tick();
  };
  for (const auto& [name, threshold] : options.thresholds)
    tool::ApplyThreshold(fmt::format("{}={}", name, std::isinf(threshold) ? "off" : fmt::format("{}", threshold)),
                         &settings.alerts);
  tool::CheckSettings(settings);
  return settings;
}

}  // namespace

class Monitor::Impl {
 public:
  explicit Impl(const MonitorOptions& options)
      : settings_(SettingsOf(options)),
        address_(tool::ParseListenAddress(settings_.listen)),
        targets_(OwnProcess(), settings_, LogOf(options)),
        server_(address_, tool::HostRule(address_, settings_.allow_hosts),
                {.answer = [this](const tool::HttpRequest& request) { return targets_.Answer(request); },
                 .methods = [this](std::string_view path) { return targets_.Methods(path); }}) {
    tool::Watched& watched = served().watched;
    if (watched.Find() == nullptr) {
      if (watched.absence_code() != tool::kExitNotTarn) throw tool::ToolError(watched.absence());
      throw tool::ToolError(
          "this program does not run on tarn, so it has nothing to tell; link it with tarn::tarn, or start it by tarn "
          "run -- COMMAND");
    }
    served().monitor.Tick();
    server_.Start();
    const tool::SignalsBlocked blocked;
    thread_ = std::thread([this] { Look(); });
    pthread_setname_np(thread_.native_handle(), "tarn-monitor");
    // Last, for what is remembered is forgotten by the destructor alone.
    RememberListener(server_.listener());
  }

  ~Impl() {
    {
      const std::lock_guard lock(mutex_);
      stops_ = true;
    }
    wake_.notify_all();
    thread_.join();
    ForgetListener(server_.listener());
    server_.Stop();
  }

  bool is_of_this_process() const { return process_ == getpid(); }
  const std::string& url() const { return server_.url(); }
  tool::Targets::Served& served() const { return *targets_.all().front(); }

 private:
  static std::vector<tool::TargetSpec> OwnProcess() {
    std::vector<tool::TargetSpec> specs = {{tool::Watched::By::kPid, std::to_string(getpid()), ""}};
    tool::GiveLabels(&specs);
    return specs;
  }

  static std::function<void(std::string_view)> LogOf(const MonitorOptions& options) {
    return [log = options.log](std::string_view line) {
      // Which process it is goes without saying here.
      if (line.starts_with("watching ")) return;
      if (log) {
        log(line);
      } else {
        fmt::print(stderr, "{}\n", line);
      }
    };
  }

  void Look() {
    std::unique_lock lock(mutex_);
    const auto interval = std::chrono::duration<double>(settings_.interval_s);
    while (!wake_.wait_for(lock, interval, [this] { return stops_; })) {
      lock.unlock();
      served().monitor.Tick();
      lock.lock();
    }
  }

  const pid_t process_ = getpid();
  const tool::MonitorSettings settings_;
  const tool::ListenAddress address_;
  tool::Targets targets_;
  tool::HttpServer server_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stops_ = false;
  std::thread thread_;
};

Monitor::Monitor(const MonitorOptions& options) {
  try {
    impl_ = std::make_unique<Impl>(options);
  } catch (const tool::ToolError& error) {
    // Messages of the command line's parts name its options.
    const std::string_view what = error.what();
    throw std::runtime_error(fmt::format("tarn::Monitor: {}", what.substr(what.starts_with("--") ? 2 : 0)));
  }
}

Monitor::~Monitor() {
  // The threads that it would wait for are not in the child of a fork.
  if (!impl_->is_of_this_process()) static_cast<void>(impl_.release());
}

const std::string& Monitor::url() const { return impl_->url(); }

std::string Monitor::MetricsJson() const {
  const auto look = impl_->is_of_this_process() ? impl_->served().monitor.Look() : std::nullopt;
  return look ? tool::JsonText(tool::MetricsDocument(look->now, look->trend, look->alerts)) : "{}\n";
}

std::vector<MonitorAlert> Monitor::alerts() const {
  std::vector<MonitorAlert> alerts;
  if (!impl_->is_of_this_process()) return alerts;
  for (const tool::Alert& alert : impl_->served().monitor.Health().alerts)
    alerts.push_back({alert.name, alert.value, alert.threshold});
  return alerts;
}

}  // namespace tarn
