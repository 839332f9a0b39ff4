// SPDX-License-Identifier: Apache-2.0
//
// A program for serve_test.py, which tells it on its standard input what to do: "hold MIB", "leak SECONDS",
// "free", "busy", "exec", "exec other", "end". It answers each line with "done".
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr std::size_t kBlockBytes = 64 << 10;

std::vector<std::unique_ptr<char[]>> blocks;

__attribute__((noinline)) void HoldBlocks(int count) {
  for (int i = 0; i < count; ++i) {
    blocks.push_back(std::make_unique<char[]>(kBlockBytes));  //@ hold
    std::memset(blocks.back().get(), 1, kBlockBytes);
  }
}

}  // namespace

int main() {
  std::printf("ready\n");
  std::fflush(stdout);
  for (std::string line; std::getline(std::cin, line) && line != "end";) {
    if (line.starts_with("hold ")) HoldBlocks(16 * std::atoi(line.c_str() + 5));
    if (line == "free") blocks.clear();
    // Half a MiB every 50 ms.
    if (line.starts_with("leak ")) {
      for (int i = std::atoi(line.c_str() + 5) * 20; i > 0; --i) {
        HoldBlocks(8);
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
      }
    }
    // By tarn's slow paths each millisecond, until the next line comes.
    if (line == "busy") {
      pollfd input = {STDIN_FILENO, POLLIN, 0};
      while (poll(&input, 1, 1) == 0) std::free(std::malloc(300'000));
    }
    // Then it is "ready" once more, or another program.
    if (line == "exec") execl("/proc/self/exe", "serve_program", nullptr);
    if (line == "exec other") execl("/bin/sleep", "sleep", "600", nullptr);
    std::printf("done\n");
    std::fflush(stdout);
  }
}
