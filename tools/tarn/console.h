// SPDX-License-Identifier: Apache-2.0
//
// Writes the results and messages of the tool, with colours on a terminal.
#pragma once

#include <string>
#include <string_view>

#include "tools/tarn/verb.h"

namespace tarn::tool {

// Writes to the file of -o, or to stdout. Throws ToolError where it cannot be written in full; a file that was there
// before is then as it was. Names and logs of other processes may be in the text, so control characters are written as
// "\x1b" (PrintableText).
void WriteResult(const Invocation& invocation, std::string_view text);
void WriteStdout(std::string_view text);
// The same for bytes that are not a text: they stay as they are.
void WriteResultBytes(const Invocation& invocation, std::string_view bytes);
void WriteStdoutBytes(std::string_view bytes);
void WriteFile(const std::string& path, std::string_view bytes);

// Writes a text to stderr as it is, but for control characters.
void WriteStderr(std::string_view text);
// "tarn: " and the text, on stderr.
void Message(std::string_view text);
// The same, unless -q was given.
void Note(const Invocation& invocation, std::string_view text);

// Colours are for terminals only, and never with NO_COLOR (no-color.org) or TERM=dumb.
bool StdoutHasColour();
bool StderrIsTerminal();

enum class Style { kBold, kGood, kBad, kFaint };
std::string Styled(Style style, std::string_view text, bool colour);

}  // namespace tarn::tool
