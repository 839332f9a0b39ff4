#include "tools/tarn/profile/function_totals.h"

#include <regex.h>

#include <algorithm>
#include <vector>

#include "tools/tarn/profile/names.h"

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

// For each function of the profile whether it is hidden, by the rules of pprof: drop_frames matches the whole name, and
// keep_frames does not. A pattern that is not understood hides nothing, which is merely longer.
std::vector<bool> HiddenFunctions(const Profile& profile) {
  const NamePattern drop(profile.Text(profile.drop_frames));
  const NamePattern keep(profile.Text(profile.keep_frames));
  std::vector<bool> hidden;
  for (const Profile::Function& function : profile.functions) {
    const std::string& name = profile.Text(function.name);
    hidden.push_back(drop.Matches(name) && !keep.Matches(name));
  }
  return hidden;
}

struct CountedFrame {
  FunctionTotal* total;
  bool is_hidden;
};

// The hidden frame nearest to main takes all that it called with it, as in pprof; but a stack that begins with hidden
// frames at main's end keeps them, so that never all of it goes.
std::size_t FirstVisible(const std::vector<CountedFrame>& frames) {
  bool is_below_visible = false;
  for (std::size_t i = frames.size(); i > 0; --i) {
    if (!frames[i - 1].is_hidden)
      is_below_visible = true;
    else if (is_below_visible)
      return i;
  }
  return 0;
}

// The name of the part of a file that holds an address without a name.
std::string UnnamedPlace(const Profile& profile, const Profile::Location& location) {
  if (location.mapping == Profile::kNone) return "[unknown]";
  const std::string& file = profile.Text(profile.mappings[location.mapping].file);
  return file.empty() ? "[anon]" : file[0] == '[' ? file : "[" + BaseName(file) + "]";
}

}  // namespace

std::unordered_map<std::string, FunctionTotal> FunctionTotals(const Profile& profile, std::size_t sample_type) {
  // The frames of each location, so that a name is looked up once.
  const std::vector<bool> hidden = HiddenFunctions(profile);
  std::unordered_map<std::string, FunctionTotal> totals;
  std::vector<std::vector<CountedFrame>> frames(profile.locations.size());
  for (std::size_t i = 0; i < frames.size(); ++i) {
    const Profile::Location& location = profile.locations[i];
    for (const Profile::Line& line : location.lines) {
      const Profile::Function& function = profile.functions[line.function];
      FunctionTotal& total = totals[profile.Text(function.name)];
      if (total.place.empty() && function.file != 0) {
        total.place = profile.Text(function.file);
        if (function.start_line > 0) total.place += ":" + std::to_string(function.start_line);
      }
      frames[i].push_back({&total, hidden[line.function]});
    }
    if (location.lines.empty()) frames[i].push_back({&totals[UnnamedPlace(profile, location)], false});
  }

  std::vector<CountedFrame> frames_of_sample;
  std::vector<FunctionTotal*> stack;
  for (const Profile::Sample& sample : profile.samples) {
    frames_of_sample.clear();
    for (std::uint32_t location : sample.locations)
      frames_of_sample.insert(frames_of_sample.end(), frames[location].begin(), frames[location].end());
    const std::size_t first = FirstVisible(frames_of_sample);
    stack.clear();
    for (std::size_t i = first; i < frames_of_sample.size(); ++i) stack.push_back(frames_of_sample[i].total);
    if (stack.empty()) continue;
    const std::int64_t value = sample.values[sample_type];
    stack.front()->self = SaturatingAdd(stack.front()->self, value);
    std::sort(stack.begin(), stack.end());
    stack.erase(std::unique(stack.begin(), stack.end()), stack.end());
    for (FunctionTotal* total : stack) total->with_callees = SaturatingAdd(total->with_callees, value);
  }
  return totals;
}

std::int64_t Total(const Profile& profile, std::size_t sample_type) {
  std::int64_t total = 0;
  for (const Profile::Sample& sample : profile.samples) total = SaturatingAdd(total, sample.values[sample_type]);
  return total;
}

}  // namespace tarn::tool
