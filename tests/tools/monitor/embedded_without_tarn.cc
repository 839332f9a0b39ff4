// SPDX-License-Identifier: Apache-2.0
//
// A program with tarn::Monitor that does not run on tarn is told so.
#include <tarn/monitor.h>

#include <cstdio>
#include <stdexcept>
#include <string>

int main() {
  try {
    tarn::MonitorOptions options;
    options.listen = "127.0.0.1:0";
    const tarn::Monitor monitor(options);
  } catch (const std::runtime_error& error) {
    std::puts(error.what());
    return std::string(error.what()).find("does not run on tarn") != std::string::npos ? 0 : 1;
  }
  std::puts("there was no error");
  return 1;
}
