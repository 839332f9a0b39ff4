// SPDX-License-Identifier: Apache-2.0
//
// tarn symbolize: functions, files and lines for the reports of misuse that the library writes.
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

#include "tools/inspect/report_symbols.h"
#include "tools/tarn/console.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct SymbolizeOptions {
  std::string report = "-";
};

std::string ReadAll(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ToolError(fmt::format("cannot read {}: {}", path, std::strerror(errno)));
  return {std::istreambuf_iterator<char>(file), {}};
}

int RunSymbolize(const SymbolizeOptions& options, const Invocation& invocation) {
  ReportSymbols symbols;
  const std::string text = symbols.Symbolize(ReadAll(options.report));
  for (const std::string& note : symbols.TakeNotes()) Note(invocation, fmt::format("symbolize: {}", note));
  WriteResult(invocation, text);
  return kExitOk;
}

Prepared PrepareSymbolize() {
  auto o = std::make_shared<SymbolizeOptions>();
  return {{{"[REPORT]", "FILE", "a file with reports of misuse, text or JSON; - is stdin (-)", &o->report}},
          [o](const Invocation& invocation) { return RunSymbolize(*o, invocation); }};
}

}  // namespace

extern const Verb kSymbolizeVerb;
const Verb kSymbolizeVerb = {
    .name = "symbolize",
    .summary = "add functions and lines to a report of misuse",
    .examples = {{"tarn symbolize server.log", "a log with reports in it; other lines stay as they are"},
                 {"./server 2>&1 | tarn symbolize", "while a program runs; shows all at its end"},
                 {"tarn symbolize misuse.json", "what TARN_CHECK_FORMAT=json has written, with lines"}},
    .details =
        "The library writes stacks as addresses with the file that they lie in, since it may not allocate while it "
        "reports. This reads the debug information of these files, or their separate debug files, and puts names in "
        "place. JSON stays JSON: each frame gets `lines`, the innermost inlined function first. The files must be "
        "those that ran: a program that was built anew since has other lines.",
    .prepare = PrepareSymbolize,
};

}  // namespace tarn::tool
