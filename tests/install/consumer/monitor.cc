// SPDX-License-Identifier: Apache-2.0
//
// A C++ program that serves its own pages.
#include <tarn/monitor.h>

#include <cstdio>

int main() {
  tarn::MonitorOptions options;
  options.listen = "127.0.0.1:0";
  const tarn::Monitor monitor(options);
  const bool serves = monitor.url().find("http://127.0.0.1:") == 0;
  const bool tells = monitor.MetricsJson().find("\"heap_mb\"") != std::string::npos;
  return std::puts(serves && tells ? "hello" : "wrong") == EOF;
}
