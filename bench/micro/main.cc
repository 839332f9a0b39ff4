// SPDX-License-Identifier: Apache-2.0
//
// The microbenchmarks of malloc and its family, on google-benchmark: the malloc of the process is measured.
//
// The program is not linked with tarn; preload the allocator. The context of the results names the files that malloc,
// free and operator new come from. `tarn compare` sets BENCH_METRICS: the results are then rows of that file. stdout
// has their names alone, as the outputs of all allocators have to be the same.
#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <climits>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

namespace {

std::string FileOf(void* function) {
  Dl_info info;
  char path[PATH_MAX];
  if (dladdr(function, &info) == 0 || realpath(info.dli_fname, path) == nullptr) return "unknown";
  return path;
}

// Writes a row for each benchmark: its name, and the nanoseconds of an item.
class RowReporter : public benchmark::BenchmarkReporter {
 public:
  explicit RowReporter(const char* path) : file_(std::fopen(path, "w")) {}

  // False where the rows cannot be written.
  bool ok() const { return file_ != nullptr; }

  // Ends the list. False where not all of it could be written.
  bool Close() {
    std::fputs("]}\n", file_);
    const bool written = std::ferror(file_) == 0;
    return std::fclose(file_) == 0 && written;
  }

  bool ReportContext(const Context& /*context*/) override {
    std::fputs("{\"rows\": [", file_);
    return true;
  }

  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs) {
      const auto rate = run.counters.find("items_per_second");
      if (run.run_type != Run::RT_Iteration || rate == run.counters.end()) continue;
      // Names are words, digits, colons and strokes, which JSON takes as they are.
      const std::string name = run.benchmark_name();
      std::printf("%s\n", name.c_str());
      std::fprintf(file_, "%s\n{\"name\": \"%s\", \"item_ns\": %.9g}", separator_, name.c_str(),
                   1e9 / static_cast<double>(rate->second));
      separator_ = ",";
    }
  }

 private:
  std::FILE* file_;
  const char* separator_ = "";
};

}  // namespace

int main(int argc, char** argv) {
  // By name, as the loader binds the calls. The address of a function, taken here, could be that of a stub of ours.
  const char* const functions[] = {"malloc", "free", "realloc", "aligned_alloc", "_Znwm"};
  for (const char* function : functions) {
    benchmark::AddCustomContext(function, FileOf(dlsym(RTLD_DEFAULT, function)));
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  std::size_t count = 0;
  if (const char* path = std::getenv("BENCH_METRICS"); path != nullptr) {
    RowReporter reporter(path);
    if (!reporter.ok()) {
      std::fprintf(stderr, "micro: cannot write %s, which BENCH_METRICS names\n", path);
      return 1;
    }
    count = benchmark::RunSpecifiedBenchmarks(&reporter);
    if (!reporter.Close()) {
      std::fprintf(stderr, "micro: cannot write all of %s\n", path);
      return 1;
    }
  } else {
    count = benchmark::RunSpecifiedBenchmarks();
  }
  if (count == 0) {
    std::fputs("micro: no benchmark has such a name; --benchmark_list_tests=true lists them\n", stderr);
    return 1;
  }
  benchmark::Shutdown();
  return 0;
}
