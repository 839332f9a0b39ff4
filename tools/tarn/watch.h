// SPDX-License-Identifier: Apache-2.0
//
// Showing something again and again, until the user or the process has had enough.
#pragma once

#include <functional>
#include <string>

#include "tools/tarn/verb.h"

namespace tarn::tool {

struct WatchOptions {
  double interval_s = 0;  // 0: once
  int count = 0;          // the number of times; 0: no bound
};

// Where the text will be seen.
struct View {
  bool is_first = true;
  bool is_screen = false;  // a terminal that is written over each time
  std::size_t lines = 24;  // of the terminal
  std::size_t columns = 80;
};

// Writes what `show` returns: over the terminal, or one text after another to a pipe or the file of -o. Ends after
// `count` times, at ^C, on the key q, and with a message when the process has ended (TargetGone) after the first time.
void Watch(const Invocation& invocation, const WatchOptions& options,
           const std::function<std::string(const View&)>& show);

}  // namespace tarn::tool
