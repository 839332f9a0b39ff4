// SPDX-License-Identifier: Apache-2.0
//
// tarn check: whether a process uses tarn, or a program would, and if not, why.
#include <elf.h>
#include <fmt/format.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "tools/base/json_text.h"
#include "tools/inspect/symbol_names.h"
#include "tools/inspect/target.h"
#include "tools/tarn/console.h"
#include "tools/tarn/program.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

// A line of the output. One that is not ok is a reason why tarn is not in use.
struct Finding {
  bool is_ok;
  std::string text;
};
using Findings = std::vector<Finding>;

std::string ReadWhole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A variable of the environment that a process was started with. Some programs write over theirs, for a title in ps.
std::string EnvironmentOf(pid_t pid, std::string_view name) {
  const std::string environment = ReadWhole(fmt::format("/proc/{}/environ", pid));
  const std::string start = std::string(name) + "=";
  for (std::size_t at = 0; at < environment.size();) {
    const std::string entry = environment.c_str() + at;
    if (entry.starts_with(start)) return entry.substr(start.size());
    at += entry.size() + 1;
  }
  return "";
}

bool HasEnvironment(pid_t pid) {
  return ReadWhole(fmt::format("/proc/{}/environ", pid)).find('=') != std::string::npos;
}

// How tarn came into a process that uses it.
std::string WayIn(pid_t pid, const std::string& file) {
  if (!BaseName(file).starts_with("libtarn")) return "linked into the program";
  if (EnvironmentOf(pid, "LD_PRELOAD").find("libtarn") != std::string::npos) return "preload";
  // A program that needs the library has its name.
  if (ReadWhole(fmt::format("/proc/{}/exe", pid)).find("libtarn.so") != std::string::npos) return "linked";
  return HasEnvironment(pid) ? "linked by a library" : "preload";
}

// True where the loader of a process took it for one with privileges that its user does not have.
bool IsSecure(pid_t pid) {
  const std::string bytes = ReadWhole(fmt::format("/proc/{}/auxv", pid));
  for (std::size_t at = 0; at + sizeof(Elf64_auxv_t) <= bytes.size(); at += sizeof(Elf64_auxv_t)) {
    Elf64_auxv_t entry;
    std::copy_n(bytes.data() + at, sizeof(entry), reinterpret_cast<char*>(&entry));
    if (entry.a_type == AT_SECURE) return entry.a_un.a_val != 0;
  }
  return false;
}

std::vector<std::string> SplitPreload(const std::string& preload) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at < preload.size();) {
    const std::size_t end = std::min(preload.find_first_of(": ", at), preload.size());
    if (end > at) parts.push_back(preload.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

// The allocators that take the place of malloc, by the names of their files.
bool IsOtherAllocator(const std::string& file) {
  for (std::string_view name : {"libjemalloc", "libmimalloc", "libtcmalloc", "libsnmalloc", "librpmalloc", "libscudo",
                                "libhardened_malloc", "libasan", "libtsan", "libhoard"})
    if (BaseName(file).starts_with(name)) return true;
  return false;
}

std::string TransparentHugePages() {
  const std::string modes = ReadWhole("/sys/kernel/mm/transparent_hugepage/enabled");
  const std::size_t open = modes.find('[');
  const std::size_t close = modes.find(']');
  return open < close && close != std::string::npos ? modes.substr(open + 1, close - open - 1) : "unknown";
}

std::string Mode(const tarn_snapshot_block& block) {
  switch (block.cache_index) {
    case TARN_INDEX_MM_CID:
      return "per-CPU mode (rseq, mm_cid)";
    case TARN_INDEX_CPU_ID:
      return "per-CPU mode (rseq, cpu_id)";
    default:
      return "per-thread mode, the slower one: no rseq here, or TARN_MODE=thread";
  }
}

// Why libtarn.so is not even in the process.
void ExplainAbsence(pid_t pid, Findings* findings) {
  const std::string exe = fmt::format("/proc/{}/exe", pid);
  const ElfFacts facts = ReadElf(exe);
  if (facts.is_elf && !facts.has_interpreter) {
    findings->push_back({false,
                         "the program is statically linked, so nothing can be preloaded into it; link it with "
                         "tarn instead (tarn::tarn_static)"});
    return;
  }
  const std::string preload = EnvironmentOf(pid, "LD_PRELOAD");
  const std::vector<std::string> parts = SplitPreload(preload);
  const auto tarn = std::find_if(parts.begin(), parts.end(),
                                 [](const std::string& part) { return BaseName(part).starts_with("libtarn"); });
  if (!HasEnvironment(pid)) {
    findings->push_back({false,
                         "how it was started cannot be seen any more, because it has written over its environment; "
                         "tarn run -- COMMAND starts a program on tarn"});
  } else if (tarn == parts.end()) {
    findings->push_back({false, parts.empty() ? "it was started without LD_PRELOAD; tarn run -- COMMAND sets it"
                                              : fmt::format("LD_PRELOAD is {}, without libtarn.so; tarn run -- COMMAND "
                                                            "puts it there",
                                                            preload)});
  } else if (IsSecure(pid)) {
    findings->push_back(
        {false, "it runs with privileges of its own (setuid or capabilities), so the loader ignores LD_PRELOAD"});
  } else {
    const std::string path = fmt::format("/proc/{}/root{}", pid, *tarn);
    const bool is_absolute = tarn->starts_with("/");
    findings->push_back(
        {false, !is_absolute
                    ? fmt::format("LD_PRELOAD names {}, which was looked up from the program's working directory; "
                                  "give the whole path",
                                  *tarn)
                : access(path.c_str(), F_OK) != 0
                    ? fmt::format("LD_PRELOAD names {}, which is not there", *tarn)
                    : fmt::format("LD_PRELOAD names {}, which the loader did not take: it may not be readable for that "
                                  "user, or be for another machine (the program's first lines on stderr say so)",
                                  *tarn)});
  }
}

// Whose malloc comes before that of a libtarn.so that is there.
void ExplainIdleness(pid_t pid, const std::vector<ProcessMapping>& maps, Findings* findings) {
  if (ReadElf(fmt::format("/proc/{}/exe", pid)).defines_malloc) {
    findings->push_back({false, "the program has a malloc of its own, which comes before every library's"});
    return;
  }
  for (const ProcessMapping& mapping : maps) {
    if (!IsOtherAllocator(mapping.file)) continue;
    findings->push_back(
        {false, fmt::format("{} comes first; put libtarn.so before it in LD_PRELOAD, as tarn run does", mapping.file)});
    return;
  }
  findings->push_back({false, "nothing has called its malloc yet; the process may be just starting"});
}

void CheckProcess(pid_t pid, Findings* findings) {
  const ProcessMemory memory(pid);
  const std::vector<ProcessMapping> maps = MapsOfTarget(memory);
  const SnapshotPlace place = FindSnapshot(memory, maps);
  if (place.address == 0) {
    findings->push_back({false, "libtarn.so is not in the process, and tarn is not linked into it"});
    ExplainAbsence(pid, findings);
    return;
  }
  switch (place.error) {
    case SnapshotError::kNone: {
      const Target target(pid);
      findings->push_back({true, fmt::format("malloc, free, operator new -> {} {} ({})", BaseName(place.file),
                                             place.library_version, WayIn(pid, place.file))});
      findings->push_back({true, fmt::format("{}; THP {}", Mode(target.reader().block()), TransparentHugePages())});
      return;
    }
    case SnapshotError::kNotStarted:
      findings->push_back({false, fmt::format("{} is in the process, but nobody allocates by it", place.file)});
      ExplainIdleness(pid, maps, findings);
      return;
    case SnapshotError::kOtherVersion:
      findings->push_back(
          {true, fmt::format("malloc, free, operator new -> {} {}, another version than this tool's {}; "
                             "use the tool that came with it",
                             BaseName(place.file), place.library_version, TARN_VERSION)});
      return;
    case SnapshotError::kNoMagic:
    case SnapshotError::kUnreadable:
      throw ToolError(fmt::format("process {} can no longer be read; it has ended, as it seems", Describe(pid)));
  }
}

void CheckProgram(const std::string& name, Findings* findings) {
  const std::string program = FindProgram(name);
  if (access(program.c_str(), R_OK) != 0) {
    findings->push_back({false, fmt::format("{} is not readable for you, so nothing can be said of it", program)});
    return;
  }
  // The magic of the snapshot is in every program that tarn is linked into.
  if (ReadWhole(program).find(TARN_SNAPSHOT_MAGIC) != std::string::npos) {
    findings->push_back({true, "tarn is linked into the program"});
    return;
  }
  if (const std::string reason = WhyNoPreload(program); !reason.empty()) {
    findings->push_back({false, reason});
    return;
  }
  if (getxattr(program.c_str(), "security.capability", nullptr, 0) > 0 && geteuid() != 0) {
    findings->push_back({false, "the file has capabilities (getcap), so the loader ignores LD_PRELOAD"});
    return;
  }
  const ElfFacts facts = ReadElf(program);
  if (facts.defines_malloc) {
    findings->push_back({false, "the program has a malloc of its own, which comes before every library's"});
    return;
  }
  try {
    const std::string library = FindTarn();
    findings->push_back({true, fmt::format("{} can be preloaded: tarn run -- {}", library, name)});
  } catch (const ToolError& error) {
    findings->push_back({false, error.what()});
  }
}

int RunCheck(const std::string& what, const Invocation& invocation) {
  Findings findings;
  const bool is_pid = what.find_first_not_of("0123456789") == std::string::npos;
  if (is_pid)
    CheckProcess(ParsePid(what), &findings);
  else
    CheckProgram(what, &findings);
  const bool is_active = std::all_of(findings.begin(), findings.end(), [](const Finding& f) { return f.is_ok; });
  if (invocation.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const Finding& finding : findings) list.push_back({{"ok", finding.is_ok}, {"text", finding.text}});
    const nlohmann::json document = {
        {"schema", "tarn-check/1"}, {"target", what}, {"uses_tarn", is_active}, {"findings", list}};
    WriteResult(invocation, JsonText(document));
  } else {
    const bool has_colour = invocation.output == "-" && StdoutHasColour();
    std::string text;
    for (const Finding& finding : findings)
      text += fmt::format("{}   {}\n",
                          Styled(finding.is_ok ? Style::kGood : Style::kBad, finding.is_ok ? "ok" : "no", has_colour),
                          finding.text);
    WriteResult(invocation, text);
  }
  return is_active ? kExitOk : kExitNotTarn;
}

Prepared PrepareCheck() {
  auto what = std::make_shared<std::string>();
  return {{{"PID|PROGRAM", "FILE", "a running process, or a program that is to be run", what.get()}},
          [what](const Invocation& invocation) { return RunCheck(*what, invocation); }};
}

}  // namespace

extern const Verb kCheckVerb;
const Verb kCheckVerb = {
    .name = "check",
    .summary = "tell whether a process uses tarn, and if not, why",
    .examples = {{"tarn check 4711", "is it really in use there?"},
                 {"tarn check ./server", "could it be preloaded into that program?"}},
    .details = "Exit code 4 when tarn is not in use, or could not be.",
    .prepare = PrepareCheck,
};

}  // namespace tarn::tool
