// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/compare/words.h"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <sstream>

namespace tarn::tool {

namespace {

constexpr std::size_t kTailBytes = 600;

}  // namespace

std::string Replaced(const std::string& text, const std::map<std::string, std::string>& values) {
  std::string result;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t close = text[at] == '{' ? text.find('}', at) : std::string::npos;
    const auto value = close == std::string::npos ? values.end() : values.find(text.substr(at + 1, close - at - 1));
    if (value == values.end()) {
      result += text[at++];
    } else {
      result += value->second;
      at = close + 1;
    }
  }
  return result;
}

std::vector<std::string> Replaced(const std::vector<std::string>& words,
                                  const std::map<std::string, std::string>& values) {
  std::vector<std::string> result;
  result.reserve(words.size());
  for (const std::string& word : words) result.push_back(Replaced(word, values));
  return result;
}

std::string TailOf(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::stringstream content;
  file.seekg(0, std::ios::end);
  const auto size = static_cast<std::size_t>(std::max<std::streamoff>(0, file.tellg()));
  file.seekg(static_cast<std::streamoff>(size - std::min(size, kTailBytes)));
  content << file.rdbuf();
  std::string tail = content.str();
  while (!tail.empty() && tail.back() == '\n') tail.pop_back();
  return tail;
}

}  // namespace tarn::tool
