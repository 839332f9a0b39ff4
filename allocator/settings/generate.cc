// SPDX-License-Identifier: Apache-2.0
//
// Writes what users read about the settings, from the table of them: the manual page libtarn(7), and the rows of the
// tables in README.md and docs/, which tools/check_settings compares with what stands there, or puts there.
//
//   tarn_generate_settings man              the manual page, in roff
//   tarn_generate_settings rows DOCUMENT    a row of Markdown per setting; links are those of that document
//   tarn_generate_settings presets          a row of Markdown per setting that a preset sets

#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "allocator/settings/roff.h"
#include "allocator/settings/table.h"

namespace {

using tarn::kPresetNames;
using tarn::kSettings;
using tarn::Roff;
using tarn::Setting;

bool IsOfPresets(const Setting& setting) { return setting.presets[0][0] != '\0'; }

constexpr const char* kManualStart = R"(.SH NAME
libtarn \- a memory allocator with per-CPU caches
.SH SYNOPSIS
.nf
\fBLD_PRELOAD=\fIdirectory\fB/libtarn.so\fR \fIprogram\fR
\fBcc\fR \fIfile\fB.c \-ltarn\fR
.fi
.SH DESCRIPTION
The library replaces malloc(3), free(3) and their kin, and the operators new and delete, in the whole process.
It also has pools and arenas, statistics and heap profiles; the headers in tarn/ describe them.
.SH ENVIRONMENT
The library reads these once, at the first allocation, and ignores them in programs that run with rights which
their caller does not have. It reports a wrong name or value on stderr, and otherwise ignores it.
.PP
on is also 1, yes, true; off is also 0, no, false. Bytes are a whole number with B, KiB, MiB, GiB, TiB or nothing
behind it, at most 1TiB (limits: 64TiB).)";

void PrintManual() {
  std::printf(".TH \"libtarn\" 7 \"\" \"tarn %s\" \"tarn\"\n.nh\n", TARN_VERSION);
  std::puts(kManualStart);
  for (const Setting& setting : kSettings) {
    std::printf(".TP\n\\fB%s\\fR\n%s.\n.br\nTakes %s. Default: %s.\n", setting.name, Roff(setting.text).c_str(),
                Roff(setting.expected).c_str(), Roff(setting.default_value).c_str());
  }
  std::puts(".SH PRESETS\nWhat TARN_PRESET sets. What is set by name comes before it.");
  for (std::size_t preset = 0; preset < tarn::kPresetCount; ++preset) {
    std::string values;
    for (const Setting& setting : kSettings) {
      if (!IsOfPresets(setting)) continue;
      values += std::string(values.empty() ? "" : ",\n") + setting.name + "=" + Roff(setting.presets[preset]);
    }
    std::printf(".TP\n.B %s\n%s\n", kPresetNames[preset + 1], values.c_str());
  }
  std::puts(
      ".SH EXIT STATUS\nA process that misuses memory ends by abort(3), after a line on stderr. With TARN_STRICT=on, a "
      "wrong\nsetting ends it with 78.\n.SH SEE ALSO\n.BR tarn (1),\n.BR tarn\\-options (1),\n.BR malloc (3),\n"
      ".BR ld.so (8)");
}

// The page of a setting as a link of the document, whose path is one from the root; empty in that page itself.
std::string Link(const Setting& setting, std::string_view document) {
  const std::string path = std::string("docs/") + setting.page + ".md";
  if (*setting.page == '\0' || path == document) return "";
  const bool in_docs = document.substr(0, strlen("docs/")) == "docs/";
  return std::string(" ([") + setting.page + "](" + (in_docs ? path.substr(strlen("docs/")) : path) + "))";
}

void PrintRows(std::string_view document) {
  for (const Setting& setting : kSettings) {
    std::printf("| `%s` | %s | %s | %s%s |\n", setting.name, setting.expected, setting.default_value, setting.text,
                Link(setting, document).c_str());
  }
}

void PrintPresets() {
  for (const Setting& setting : kSettings) {
    if (!IsOfPresets(setting)) continue;
    std::printf("| `%s` | %s |", setting.name, setting.default_value);
    for (const char* value : setting.presets) std::printf(" %s |", value);
    std::puts("");
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "man" && argc == 2) {
    PrintManual();
  } else if (what == "rows" && argc == 3) {
    PrintRows(argv[2]);
  } else if (what == "presets" && argc == 2) {
    PrintPresets();
  } else {
    std::fputs("usage: tarn_generate_settings man | rows DOCUMENT | presets\n", stderr);
    return 2;
  }
  return std::fflush(stdout) == 0 ? 0 : 1;
}
