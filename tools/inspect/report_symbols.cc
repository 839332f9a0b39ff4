// SPDX-License-Identifier: Apache-2.0

#include "tools/inspect/report_symbols.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "tools/inspect/symbol_names.h"

namespace tarn::tool {

namespace {

// "    #3 0x7f0012 in free+0x12 (/lib/libx.so+0x345)", without what stands between the address and the file.
struct FrameLine {
  std::string_view head;  // up to the address
  std::string module;
  std::uint64_t offset;
};

std::optional<std::uint64_t> ParseHex(std::string_view text) {
  if (!text.starts_with("0x")) return std::nullopt;
  text.remove_prefix(2);
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<FrameLine> ParseFrameLine(std::string_view line) {
  const std::size_t start = line.find_first_not_of(' ');
  if (start == std::string_view::npos || line[start] != '#' || !line.ends_with(')')) return std::nullopt;
  const std::size_t address = line.find(" 0x", start);
  if (address == std::string_view::npos) return std::nullopt;
  const std::size_t head_end = line.find(' ', address + 1);
  // The name of a file may hold blanks, brackets and signs; that of a function before it holds no " (".
  const std::size_t open = line.find(" (", address + 1);
  const std::size_t plus = line.rfind('+');
  if (head_end == std::string_view::npos || open == std::string_view::npos || plus == std::string_view::npos ||
      plus < open) {
    return std::nullopt;
  }
  const auto offset = ParseHex(line.substr(plus + 1, line.size() - plus - 2));
  if (!offset) return std::nullopt;
  return FrameLine{line.substr(0, head_end), std::string(line.substr(open + 2, plus - open - 2)), *offset};
}

std::string Place(const Frame& frame) {
  if (frame.file.empty()) return "";
  return frame.line > 0 ? fmt::format(" {}:{}", frame.file, frame.line) : " " + frame.file;
}

std::string Name(const Frame& frame) { return frame.name.empty() ? "??" : frame.name; }

}  // namespace

std::string ReportSymbols::Symbolize(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    const bool has_end = end < text.size();
    text.remove_prefix(has_end ? end + 1 : end);
    // A log of many reports says this once, and the reader has done it.
    if (line.starts_with("  `tarn symbolize`")) continue;
    result += line.starts_with("{\"schema\":\"tarn-misuse/") ? SymbolizeJson(line) : SymbolizeLine(line);
    if (has_end) result += '\n';
  }
  return result;
}

std::vector<std::string> ReportSymbols::TakeNotes() { return std::exchange(notes_, {}); }

std::string ReportSymbols::SymbolizeLine(std::string_view line) {
  const auto parsed = ParseFrameLine(line);
  if (!parsed) return std::string(line);
  const std::vector<Frame> frames = FramesAt(parsed->module, parsed->offset);
  if (frames.empty()) return std::string(line);
  std::string result;
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (i != 0) result += '\n';
    const bool is_inlined = i + 1 < frames.size();
    result +=
        fmt::format("{} in {}{}{}", parsed->head, Name(frames[i]), Place(frames[i]), is_inlined ? " (inlined)" : "");
  }
  return result + fmt::format(" ({}+{:#x})", BaseName(parsed->module), parsed->offset);
}

std::string ReportSymbols::SymbolizeJson(std::string_view line) {
  nlohmann::json report = nlohmann::json::parse(line, nullptr, false);
  if (!report.is_object()) return std::string(line);
  for (const char* const stack : {"here", "free", "allocation"}) {
    if (!report.contains(stack) || !report[stack].contains("frames")) continue;
    for (nlohmann::json& site : report[stack]["frames"]) {
      if (!site.is_object() || !site.contains("module") || !site.contains("offset")) continue;
      if (!site["module"].is_string() || !site["offset"].is_string()) continue;
      const auto offset = ParseHex(site["offset"].get<std::string>());
      if (!offset) continue;
      nlohmann::json lines = nlohmann::json::array();
      for (const Frame& frame : FramesAt(site["module"], *offset)) {
        lines.push_back({{"function", frame.name}, {"file", frame.file}, {"line", frame.line}});
      }
      if (!lines.empty()) site["lines"] = std::move(lines);
    }
  }
  return report.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::vector<Frame> ReportSymbols::FramesAt(const std::string& module, std::uint64_t address) {
  const auto [found, is_new] = files_.try_emplace(module);
  if (is_new) {
    // A report may name any file; reading a device or a pipe would have effects.
    const int fd = open(module.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0 && S_ISREG(status.st_mode)) {
      found->second = ElfSymbols::Open(fd, module, {});
    } else if (fd >= 0) {
      close(fd);
    }
    if (found->second == nullptr) notes_.push_back("no names for " + module + ": the file cannot be read");
  }
  return found->second == nullptr ? std::vector<Frame>() : found->second->Find(address);
}

}  // namespace tarn::tool
