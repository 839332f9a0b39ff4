// SPDX-License-Identifier: Apache-2.0

#include "tools/monitor/server/http.h"

#include <algorithm>
#include <charconv>
#include <cstddef>

namespace tarn::tool {

namespace {

// Cuts off and returns what stands before the separator.
std::string_view NextPart(std::string_view* text, char separator) {
  const std::size_t length = std::min(text->find(separator), text->size());
  const std::string_view part = Trimmed(text->substr(0, length));
  text->remove_prefix(std::min(length + 1, text->size()));
  return part;
}

// How exactly a range of an Accept header means a type: 3 by name, 2 "text/*", 1 "*/*", 0 not at all.
int Exactness(std::string_view range, std::string_view type) {
  if (EqualsIgnoringCase(range, type)) return 3;
  if (range == "*/*") return 1;
  const bool is_family = range.ends_with("/*") && type.size() >= range.size() - 1;
  return is_family && EqualsIgnoringCase(range.substr(0, range.size() - 1), type.substr(0, range.size() - 1)) ? 2 : 0;
}

// Of "%41" and "+" as forms have them; another text stays as it is.
std::string Decoded(std::string_view text) {
  std::string result;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned code = 0;
    const char* const digits = text.data() + i + 1;
    if (text[i] == '%' && i + 2 < text.size() && std::from_chars(digits, digits + 2, code, 16).ptr == digits + 2) {
      result += static_cast<char>(code);
      i += 2;
    } else {
      result += text[i] == '+' ? ' ' : text[i];
    }
  }
  return result;
}

}  // namespace

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  const std::size_t start = text.find_first_not_of(kBlanks);
  if (start == std::string_view::npos) return {};
  return text.substr(start, text.find_last_not_of(kBlanks) - start + 1);
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

int PreferredType(std::string_view accept, const std::vector<std::string_view>& types) {
  if (Trimmed(accept).empty()) return 0;
  struct Choice {
    int exactness = 0;
    double quality = 0;
  };
  std::vector<Choice> choices(types.size());
  while (!accept.empty()) {
    std::string_view range = NextPart(&accept, ',');
    const std::string_view name = NextPart(&range, ';');
    double quality = 1;
    while (!range.empty()) {
      const std::string_view parameter = NextPart(&range, ';');
      if (!parameter.starts_with("q=") && !parameter.starts_with("Q=")) continue;
      if (std::from_chars(parameter.data() + 2, parameter.data() + parameter.size(), quality).ec != std::errc())
        quality = 0;
    }
    for (std::size_t i = 0; i < types.size(); ++i) {
      const int exactness = Exactness(name, types[i]);
      // The same type may stand there several times, for its versions.
      if (exactness > choices[i].exactness) choices[i] = {exactness, quality};
      if (exactness != 0 && exactness == choices[i].exactness)
        choices[i].quality = std::max(choices[i].quality, quality);
    }
  }
  int best = -1;
  for (std::size_t i = 0; i < types.size(); ++i) {
    const double least = best < 0 ? 0 : choices[static_cast<std::size_t>(best)].quality;
    if (choices[i].quality > least) best = static_cast<int>(i);
  }
  return best;
}

std::map<std::string, std::string> FormParameters(std::string_view form) {
  std::map<std::string, std::string> parameters;
  while (!form.empty()) {
    const std::size_t length = std::min(form.find('&'), form.size());
    const std::string_view pair = form.substr(0, length);
    form.remove_prefix(std::min(length + 1, form.size()));
    const std::size_t equals = std::min(pair.find('='), pair.size());
    parameters.try_emplace(Decoded(pair.substr(0, equals)), Decoded(pair.substr(std::min(equals + 1, pair.size()))));
  }
  return parameters;
}

}  // namespace tarn::tool
