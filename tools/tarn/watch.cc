// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/watch.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>

#include "tools/base/text.h"
#include "tools/inspect/target.h"
#include "tools/tarn/console.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

volatile std::sig_atomic_t g_interrupted = 0;

// ^C ends the loop and not the tool, so that the terminal is put in order; and keys arrive one by one.
class Terminal {
 public:
  explicit Terminal(bool is_screen) : is_screen_(is_screen) {
    struct sigaction action {};
    action.sa_handler = [](int) { g_interrupted = 1; };
    sigaction(SIGINT, &action, &old_interrupt_);
    sigaction(SIGTERM, &action, &old_terminate_);
    reads_keys_ = is_screen && isatty(STDIN_FILENO) == 1 && tcgetattr(STDIN_FILENO, &old_keys_) == 0;
    if (reads_keys_) {
      termios keys = old_keys_;
      keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
      tcsetattr(STDIN_FILENO, TCSANOW, &keys);
    }
    // The other screen, so that the user's own is there again afterwards; without a cursor.
    if (is_screen_) WriteStdoutBytes("\033[?1049h\033[?25l");
  }
  ~Terminal() {
    if (reads_keys_) tcsetattr(STDIN_FILENO, TCSANOW, &old_keys_);
    sigaction(SIGINT, &old_interrupt_, nullptr);
    sigaction(SIGTERM, &old_terminate_, nullptr);
    try {
      if (is_screen_) WriteStdoutBytes("\033[?25h\033[?1049l");
    } catch (const ToolError&) {
      // The terminal has gone, so there is nothing left to put in order.
    }
  }
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  // False when the user wants to end it.
  bool WaitUntil(std::chrono::steady_clock::time_point end) const {
    // ^C may arrive just before poll, so it looks round twice a second.
    while (g_interrupted == 0) {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - std::chrono::steady_clock::now()).count();
      if (left <= 0) return true;
      pollfd keys{reads_keys_ ? STDIN_FILENO : -1, POLLIN, 0};
      if (poll(&keys, 1, static_cast<int>(std::min<std::int64_t>(left, 500))) <= 0) continue;
      char key = 0;
      if (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q') return false;
      if (key == ' ') return true;
    }
    return false;
  }

 private:
  bool is_screen_;
  bool reads_keys_ = false;
  termios old_keys_;
  struct sigaction old_interrupt_;
  struct sigaction old_terminate_;
};

// Line by line over what is there, which flickers less than clearing the screen first.
std::string OverScreen(const std::string& text, std::size_t lines) {
  std::string result = "\033[H";
  for (const char c : text) {
    if (c == '\n' && --lines == 0) break;
    result += c == '\n' ? "\033[K\n" : std::string(1, c);
  }
  return result + "\033[J";
}

}  // namespace

void Watch(const Invocation& invocation, const WatchOptions& options,
           const std::function<std::string(const View&)>& show) {
  View view;
  view.is_screen = options.interval_s > 0 && !invocation.json && invocation.output == "-" && isatty(STDOUT_FILENO) == 1;
  const Terminal terminal(view.is_screen);
  const auto interval = std::chrono::duration_cast<std::chrono::steady_clock::duration>(
      std::chrono::duration<double>(options.interval_s));
  auto next = std::chrono::steady_clock::now();
  std::string all;
  for (int i = 1;; ++i) {
    winsize size{};
    if (view.is_screen && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 1 && size.ws_col > 1) {
      view.lines = size.ws_row;
      view.columns = size.ws_col;
    }
    std::string text;
    try {
      text = show(view);
    } catch (const TargetGone& gone) {
      if (view.is_first) throw;
      Note(invocation, gone.what());
      return;
    }
    if (view.is_screen) {
      WriteStdoutBytes(OverScreen(PrintableText(text, StdoutHasColour()), view.lines));
    } else {
      if (!view.is_first && !invocation.json) text = "\n" + text;
      if (invocation.output == "-") {
        WriteStdout(text);
      } else {
        // The file is whole after each time.
        all += PrintableText(text);
        WriteFile(invocation.output, all);
      }
    }
    view.is_first = false;
    next += interval;
    if (options.interval_s <= 0 || i == options.count || !terminal.WaitUntil(next)) return;
  }
}

}  // namespace tarn::tool
