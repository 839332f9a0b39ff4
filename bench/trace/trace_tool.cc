// SPDX-License-Identifier: Apache-2.0
//
// build/bench/trace_tool: makes traces of recordings, and shows what is in them. docs/traces.md is the manual.

#include <charconv>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory_resource>
#include <string>
#include <string_view>

#include "bench/trace/mapped_file.h"
#include "bench/trace/pack.h"
#include "bench/trace/trace.h"

namespace tarn::trace {
namespace {

constexpr const char* kUsage =
    "Usage: trace_tool pack RECORDING -o TRACE [--events N] [--name TEXT]\n"
    "       trace_tool show TRACE\n"
    "\n"
    "  pack  makes a trace of what libtarn_trace.so has recorded\n"
    "        --events N   takes the first N events only\n"
    "        --name TEXT  what the trace is called (default: the name of the process)\n"
    "  show  prints the events of a trace, thread by thread\n";

int UsageError(const std::string& message) {
  std::fprintf(stderr, "trace_tool: %s\n%s", message.c_str(), kUsage);
  return 2;
}

void WriteFile(const char* path, const std::pmr::vector<std::byte>& bytes) {
  std::FILE* file = std::fopen(path, "wb");
  if (file == nullptr) throw std::system_error(errno, std::generic_category(), path);
  const bool is_written = std::fwrite(bytes.data(), 1, bytes.size(), file) == bytes.size();
  if (std::fclose(file) != 0 || !is_written) throw std::system_error(errno, std::generic_category(), path);
}

int PackFile(int argc, char** argv) {
  const char* input = nullptr;
  const char* output = nullptr;
  const char* name = nullptr;
  std::uint64_t max_events = kMaxEvents;
  for (int i = 0; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const bool has_value = argument == "-o" || argument == "--events" || argument == "--name";
    if (has_value && i + 1 == argc) return UsageError(std::string(argument) + " needs a value");
    if (argument == "-o") {
      output = argv[++i];
    } else if (argument == "--name") {
      name = argv[++i];
    } else if (argument == "--events") {
      const char* text = argv[++i];
      const auto [end, problem] = std::from_chars(text, text + std::strlen(text), max_events);
      if (problem != std::errc() || *end != 0) return UsageError("--events needs a whole number");
    } else if (argument.starts_with("-") || input != nullptr) {
      return UsageError("pack does not understand " + std::string(argument));
    } else {
      input = argv[i];
    }
  }
  if (input == nullptr || output == nullptr) return UsageError("pack needs a recording, and -o with the file to write");

  const MappedFile recording(input);
  PackResult packed = Pack(recording.bytes(), max_events);
  if (packed.packed == 0) {
    throw TraceError("no call of malloc is in it: is the program linked statically, or with a malloc of its own?");
  }
  if (name != nullptr) packed.trace.program = name;
  std::uint64_t counts[kKinds] = {};
  std::uint64_t ended_by_others = 0;
  for (std::uint32_t thread = 0; thread < packed.trace.threads.size(); ++thread) {
    for (const Event& event : packed.trace.threads[thread]) {
      ++counts[static_cast<std::size_t>(event.kind)];
      if (EndsObject(event.kind) && event.thread != thread) ++ended_by_others;
    }
  }
  const auto bytes = Write(packed.trace, std::pmr::get_default_resource());
  WriteFile(output, bytes);
  std::printf("%s: %zu %s, %zu bytes\n", packed.trace.program.c_str(), packed.trace.threads.size(),
              packed.trace.threads.size() == 1 ? "thread" : "threads", bytes.size());
  for (std::size_t kind = 0; kind < kKinds; ++kind) {
    std::printf("  %-8s %12llu\n", kKindNames[kind], static_cast<unsigned long long>(counts[kind]));
  }
  std::printf("  live peak %llu bytes; freed by another thread than made them: %llu\n",
              static_cast<unsigned long long>(packed.trace.peak_bytes),
              static_cast<unsigned long long>(ended_by_others));
  std::printf("  frees of unknown objects, left out: %llu; frees that were not seen, put in: %llu\n",
              static_cast<unsigned long long>(packed.strangers),
              static_cast<unsigned long long>(packed.inferred_frees));
  return 0;
}

int ShowFile(const char* path) {
  const MappedFile file(path);
  const Trace trace = Read(file.bytes(), std::pmr::get_default_resource());
  std::printf("program %s\nlive peak %llu bytes\n", trace.program.c_str(),
              static_cast<unsigned long long>(trace.peak_bytes));
  for (std::size_t thread = 0; thread < trace.threads.size(); ++thread) {
    std::printf("thread %zu\n", thread);
    std::uint32_t objects = 0;
    for (const Event& event : trace.threads[thread]) {
      std::printf("  %s", kKindNames[static_cast<std::size_t>(event.kind)]);
      if (EndsObject(event.kind)) std::printf(" %u.%u", event.thread, event.index);
      if (event.kind == Kind::kStart) std::printf(" thread %u", event.thread);
      if (event.kind == Kind::kAligned) std::printf(" to %llu", 1ULL << event.alignment_log2);
      if (MakesObject(event.kind)) {
        std::printf(" %llu bytes -> %zu.%u", static_cast<unsigned long long>(event.bytes), thread, objects++);
      }
      std::printf("\n");
    }
  }
  return 0;
}

int Main(int argc, char** argv) {
  const std::string_view verb = argc > 1 ? argv[1] : "";
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
      std::fputs(kUsage, stdout);
      return 0;
    }
  }
  const char* input = argc > 2 ? argv[2] : "";
  try {
    if (verb == "pack") return PackFile(argc - 2, argv + 2);
    if (verb == "show" && argc == 3) return ShowFile(input);
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "trace_tool: %s: %s\n", input, problem.what());
    return 1;
  }
  return UsageError(verb.empty() ? "what shall be done?" : "not understood: " + std::string(verb));
}

}  // namespace
}  // namespace tarn::trace

int main(int argc, char** argv) { return tarn::trace::Main(argc, argv); }
