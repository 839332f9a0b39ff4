// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/symbol_names.h"

#include <cxxabi.h>

#include <cstddef>
#include <cstdlib>
#include <memory>

namespace tarn::tool {

namespace {

bool IsIdentifier(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$';
}

// True where the word `operator` starts at `at`.
bool IsOperatorAt(std::string_view text, std::size_t at) {
  constexpr std::string_view kWord = "operator";
  if (text.substr(at, kWord.size()) != kWord || (at > 0 && IsIdentifier(text[at - 1]))) return false;
  return at + kWord.size() < text.size() && !IsIdentifier(text[at + kWord.size()]);
}

// The end of "operator<<" at `at`. For "operator new" and "operator int" only the word: what follows has no sign that
// could be taken for a bracket.
std::size_t SkipOperator(std::string_view text, std::size_t at) {
  at += std::string_view("operator").size();
  for (std::string_view pair : {"()", "[]"})
    if (text.substr(at, 2) == pair) return at + 2;
  constexpr std::string_view kSigns = "+-*/%^&|~!=<>,";
  while (at < text.size() && kSigns.find(text[at]) != std::string_view::npos) ++at;
  return at;
}

// The position after the bracket that closes the one at `at`, or npos.
std::size_t SkipBrackets(std::string_view text, std::size_t at) {
  std::size_t depth = 0;
  while (at < text.size()) {
    if (IsOperatorAt(text, at)) {
      at = SkipOperator(text, at);
      continue;
    }
    switch (text[at]) {
      case '(':
      case '<':
      case '[':
      case '{':
        ++depth;
        break;
      case ')':
      case ']':
      case '}':
        --depth;
        break;
      case '>':
        if (text[at - 1] != '-') --depth;
        break;
      default:
        break;
    }
    ++at;
    if (depth == 0) return at;
  }
  return std::string_view::npos;
}

// True where the text behind a list of parameters says that an enclosing function has them, as in "f(int) const::g".
bool IsEnclosing(std::string_view rest) {
  for (std::string_view qualifier : {" const", " volatile", " &", " &&"})
    if (rest.starts_with(qualifier) && !rest.starts_with(" &&")) rest.remove_prefix(qualifier.size());
  if (rest.starts_with(" &&")) rest.remove_prefix(3);
  return rest.starts_with("::");
}

}  // namespace

std::string StripSignature(std::string_view text) {
  std::size_t name = 0;  // where the name starts, after the return type
  bool may_have_type = true;
  for (std::size_t at = 0; at < text.size();) {
    if (IsOperatorAt(text, at)) {
      at = SkipOperator(text, at);
      may_have_type = false;
      continue;
    }
    const char c = text[at];
    if (c == ' ' && may_have_type) name = at + 1;
    if (c != '(' && c != '<' && c != '[' && c != '{') {
      ++at;
      continue;
    }
    const std::size_t end = SkipBrackets(text, at);
    if (end == std::string_view::npos) return std::string(text);
    const bool is_part_of_name = text.substr(at, end - at) == "(anonymous namespace)" ||
                                 text.substr(0, at).ends_with("decltype ") || text.substr(0, at).ends_with("decltype");
    if (c == '(' && !is_part_of_name) {
      // "void (*f(int))(char)": a function that returns a pointer to one.
      if (at + 1 < text.size() && (text[at + 1] == '*' || text[at + 1] == '&')) return std::string(text);
      may_have_type = false;
      if (!IsEnclosing(text.substr(end))) return std::string(text.substr(name, at - name));
    }
    at = end;
  }
  return std::string(text.substr(name));
}

std::string DisplayName(const std::string& symbol) {
  // Clones are named name.part.0, name.constprop.0, name.cold and so on; versions name@GLIBC_2.2.5.
  const std::size_t end = symbol.find_first_of(".@", 1);
  const std::string base = symbol.substr(0, end);
  if (!base.starts_with("_Z")) return base.empty() ? symbol : base;
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> demangled(
      abi::__cxa_demangle(base.c_str(), nullptr, nullptr, &status), &std::free);
  return status == 0 && demangled != nullptr ? StripSignature(demangled.get()) : symbol;
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace tarn::tool
