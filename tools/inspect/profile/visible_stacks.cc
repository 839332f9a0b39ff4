// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/profile/visible_stacks.h"

#include <regex.h>

#include "tools/inspect/symbol_names.h"

namespace tarn::tool {

namespace {

// A regular expression on whole names. POSIX's, which read what profiles have in practice as Go's do.
class NamePattern {
 public:
  explicit NamePattern(const std::string& pattern) {
    is_valid_ = !pattern.empty() && regcomp(&regex_, ("^(" + pattern + ")$").c_str(), REG_EXTENDED | REG_NOSUB) == 0;
  }
  ~NamePattern() {
    if (is_valid_) regfree(&regex_);
  }
  NamePattern(const NamePattern&) = delete;
  NamePattern& operator=(const NamePattern&) = delete;

  bool Matches(const std::string& name) const {
    return is_valid_ && regexec(&regex_, name.c_str(), 0, nullptr, 0) == 0;
  }

 private:
  regex_t regex_;
  bool is_valid_ = false;
};

}  // namespace

// A function is hidden where drop_frames matches its whole name, and keep_frames does not. A pattern that is not
// understood hides nothing, which is merely longer.
VisibleStacks::VisibleStacks(const Profile& profile) : profile_(profile) {
  const NamePattern drop(profile.Text(profile.drop_frames));
  const NamePattern keep(profile.Text(profile.keep_frames));
  for (const Profile::Function& function : profile.functions) {
    const std::string& name = profile.Text(function.name);
    hidden_.push_back(drop.Matches(name) && !keep.Matches(name));
  }
}

void VisibleStacks::Read(const Profile::Sample& sample, std::vector<StackCall>* calls) const {
  calls->clear();
  for (const std::uint32_t location : sample.locations) {
    const std::size_t lines = profile_.locations[location].lines.size();
    for (std::uint32_t line = 0; line == 0 || line < lines; ++line) calls->push_back({location, line});
  }
  const auto is_hidden = [&](const StackCall& call) {
    const auto& lines = profile_.locations[call.location].lines;
    return !lines.empty() && hidden_[lines[call.line].function];
  };
  // The hidden frame nearest to main takes all that it called with it, as in pprof; but a stack that begins with hidden
  // frames at main's end keeps them, so that never all of it goes.
  bool is_below_visible = false;
  for (std::size_t i = calls->size(); i > 0; --i) {
    if (!is_hidden((*calls)[i - 1])) {
      is_below_visible = true;
    } else if (is_below_visible) {
      calls->erase(calls->begin(), calls->begin() + static_cast<std::ptrdiff_t>(i));
      return;
    }
  }
}

std::string UnnamedPlace(const Profile& profile, const Profile::Location& location) {
  if (location.mapping == Profile::kNone) return "[unknown]";
  const std::string& file = profile.Text(profile.mappings[location.mapping].file);
  return file.empty() ? "[anon]" : file[0] == '[' ? file : "[" + BaseName(file) + "]";
}

}  // namespace tarn::tool
