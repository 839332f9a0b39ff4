// SPDX-License-Identifier: Apache-2.0
//
// The memory monitor of the Go articles: a program that serves its own /metrics and /health, and says so when its heap
// grows beyond a threshold. An argument N makes it go on for N seconds, to look at its pages.
#include <tarn/monitor.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace std::chrono_literals;

int main(int argc, char** argv) {
  std::atomic<bool> alerted = false;
  tarn::MonitorOptions options;
  options.listen = "127.0.0.1:0";
  options.interval = 100ms;
  options.thresholds = {{"heap_mb", 64}, {"alloc_rate_mb_sec", std::numeric_limits<double>::infinity()}};
  options.log = [&alerted](std::string_view line) {
    std::printf("%s\n", std::string(line).c_str());
    if (line.substr(0, 14) == "ALERT: heap_mb") alerted = true;
  };
  tarn::Monitor monitor(options);
  std::printf("serving %s/metrics and %s/health\n", monitor.url().c_str(), monitor.url().c_str());
  std::fflush(stdout);

  // The work of a server that never empties its cache.
  std::vector<std::string> cache;
  for (int i = 0; i < 10; ++i) {
    cache.push_back(std::string(std::size_t{10} << 20, 'x'));
    std::this_thread::sleep_for(50ms);
  }
  for (int i = 0; i < 200 && !alerted; ++i) std::this_thread::sleep_for(50ms);

  std::printf("%s", monitor.MetricsJson().c_str());
  std::fflush(stdout);
  if (argc > 1) std::this_thread::sleep_for(std::chrono::seconds(std::atoi(argv[1])));
  return alerted && monitor.alerts().size() == 1 ? 0 : 1;
}
