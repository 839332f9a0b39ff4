// SPDX-License-Identifier: Apache-2.0

#include "tools/tarn/console.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "tools/base/text.h"

namespace tarn::tool {

namespace {

// 0, or the error that stopped it.
int WriteAll(int file, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(file, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return errno;
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  return 0;
}

}  // namespace

void WriteFile(const std::string& path, std::string_view bytes) {
  // The old content of a file stays until all of the new text has found room beside it.
  std::error_code unresolved;
  const std::string target = std::filesystem::weakly_canonical(path, unresolved).string();
  const std::string beside = target + ".new";
  const bool replaces = !unresolved && std::filesystem::is_regular_file(target, unresolved);
  const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
  int file = replaces ? open(beside.c_str(), flags, 0666) : -1;
  const bool is_beside = file >= 0;
  if (!is_beside) file = open(path.c_str(), flags, 0666);
  if (file < 0) throw ToolError(fmt::format("cannot write {}: {}; name another file with -o", path, strerror(errno)));
  int error = WriteAll(file, bytes);
  // Some file systems report a full disk only here.
  if (close(file) != 0 && error == 0) error = errno;
  if (is_beside && error == 0 && rename(beside.c_str(), target.c_str()) != 0) error = errno;
  if (is_beside && error != 0) unlink(beside.c_str());
  if (error != 0)
    throw ToolError(fmt::format("cannot write all of {}: {}; name a file elsewhere with -o", path, strerror(error)));
}

void WriteStdoutBytes(std::string_view bytes) {
  const int error = WriteAll(STDOUT_FILENO, bytes);
  // A reader may have seen enough (head, a pager). Then there is nobody left to write for.
  if (error != 0) throw ToolError(fmt::format("cannot write to stdout: {}", strerror(error)));
}

void WriteStdout(std::string_view text) { WriteStdoutBytes(PrintableText(text, StdoutHasColour())); }

void WriteResultBytes(const Invocation& invocation, std::string_view bytes) {
  if (invocation.output == "-") {
    WriteStdoutBytes(bytes);
  } else {
    WriteFile(invocation.output, bytes);
  }
}

void WriteResult(const Invocation& invocation, std::string_view text) {
  if (invocation.output == "-") {
    WriteStdout(text);
  } else {
    WriteFile(invocation.output, PrintableText(text));
  }
}

void WriteStderr(std::string_view text) { WriteAll(STDERR_FILENO, PrintableText(text)); }

void Message(std::string_view text) { WriteStderr(fmt::format("tarn: {}\n", text)); }

void Note(const Invocation& invocation, std::string_view text) {
  if (!invocation.quiet) Message(text);
}

bool StderrIsTerminal() { return isatty(STDERR_FILENO) == 1; }

bool StdoutHasColour() {
  const char* no_color = getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* terminal = getenv("TERM");
  return isatty(STDOUT_FILENO) == 1 && terminal != nullptr && strcmp(terminal, "dumb") != 0;
}

std::string Styled(Style style, std::string_view text, bool colour) {
  if (!colour) return std::string(text);
  const char* code = "";
  switch (style) {
    case Style::kBold:
      code = "1";
      break;
    case Style::kGood:
      code = "32";
      break;
    case Style::kBad:
      code = "31";
      break;
    case Style::kFaint:
      code = "2";
      break;
  }
  return fmt::format("\033[{}m{}\033[0m", code, text);
}

}  // namespace tarn::tool
