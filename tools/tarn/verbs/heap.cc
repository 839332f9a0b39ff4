// SPDX-License-Identifier: Apache-2.0
//
// tarn heap: writes the heap profile of a running process, or gives names to one that the library has written.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "tools/inspect/heap_profile.h"
#include "tools/inspect/profile/file.h"
#include "tools/inspect/profile/merge.h"
#include "tools/inspect/symbolizer.h"
#include "tools/tarn/console.h"
#include "tools/tarn/verb.h"

namespace tarn::tool {

namespace {

struct HeapOptions {
  std::string source;
  std::vector<std::string> debug_directories;
  double seconds = 0;
  bool without_names = false;
};

Profile ReadProcess(pid_t pid, double seconds, const Invocation& invocation) {
  const Target target(pid);
  Profile profile = ReadHeapProfile(target);
  if (seconds > 0) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    const Profile after = ReadHeapProfile(target);
    profile = Diff(profile, after);
    profile.duration_ns = static_cast<std::int64_t>(seconds * 1e9);
  } else if (profile.samples.empty()) {
    Note(invocation, profile.period == 0 ? "heap: the profile is empty, because sampling is off in that process"
                                         : "heap: the profile is empty; not a single allocation was sampled yet");
  }
  return profile;
}

int RunHeap(const HeapOptions& options, const Invocation& invocation) {
  if (invocation.json)
    throw UsageError("cannot write heap profiles as JSON; tarn top PID --json says who holds the memory");
  if (invocation.output == "-" && isatty(STDOUT_FILENO) == 1)
    throw UsageError("cannot write a heap profile to a terminal; name a file, as in: -o heap.pb.gz");
  const bool is_number = options.source.find_first_not_of("0123456789") == std::string::npos;
  // A file may be called 4711; its name on the command line is ./4711 then.
  const pid_t pid = is_number ? ParsePid(options.source) : 0;
  if (pid == 0 && options.seconds > 0) throw UsageError("--seconds is for a running process, not for a file");
  Profile profile = pid != 0 ? ReadProcess(pid, options.seconds, invocation) : ReadProfileFile(options.source);
  if (!options.without_names) {
    Symbolizer symbolizer(pid, options.debug_directories);
    symbolizer.Symbolize(&profile);
    for (const std::string& note : symbolizer.TakeNotes()) Note(invocation, "heap: " + note);
  }
  WriteResultBytes(invocation, ProfileFileBytes(profile));
  if (invocation.output != "-" && StderrIsTerminal())
    Note(invocation, fmt::format("heap: {} samples in {}; look at it by: go tool pprof -http=: {}",
                                 profile.samples.size(), invocation.output, invocation.output));
  return kExitOk;
}

Prepared PrepareHeap() {
  auto o = std::make_shared<HeapOptions>();
  return {{{"PID|FILE", "FILE", "a process that uses tarn, or a profile without names", &o->source},
           {"--seconds", "N", "only what changed within N seconds", &o->seconds, 0, 86400},
           {"--debug-dir", "DIR", "where to look for debug files, beside /usr/lib/debug; may be repeated",
            &o->debug_directories},
           {"--no-names", "", "addresses only, which is quicker; `tarn heap FILE` adds names", &o->without_names}},
          [o](const Invocation& invocation) { return RunHeap(*o, invocation); }};
}

}  // namespace

extern const Verb kHeapVerb;
const Verb kHeapVerb = {
    .name = "heap",
    .summary = "write the heap profile of a running process",
    .examples = {{"tarn heap 4711 -o heap.pb.gz", "who holds the memory; nothing runs in the process for it"},
                 {"go tool pprof -http=: heap.pb.gz", "look at it"},
                 {"tarn heap 4711 --seconds 30 -o growth.pb.gz", "what was allocated and freed within 30 seconds"},
                 {"tarn heap raw.pb -o heap.pb.gz", "add names to a profile that the program wrote itself"}},
    .details =
        "The file is in pprof's format, with four values for each stack: objects and bytes allocated since the start, "
        "and those in use. They are estimates from samples, exact as of the moment of reading. Functions, files, lines "
        "and inlined functions are in the file.",
    .prepare = PrepareHeap,
};

}  // namespace tarn::tool
