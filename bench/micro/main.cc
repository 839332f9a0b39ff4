// SPDX-License-Identifier: Apache-2.0
//
// The microbenchmarks of malloc and its family, on google-benchmark: whatever malloc the process has is measured.
//
// The program is not linked with tarn; preload the allocator. The context of the results names the files that malloc,
// free and operator new come from. So a result proves by itself which allocator it is of.
#include <benchmark/benchmark.h>
#include <dlfcn.h>

#include <climits>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

namespace {

std::string FileOf(void* function) {
  Dl_info info;
  char path[PATH_MAX];
  if (dladdr(function, &info) == 0 || realpath(info.dli_fname, path) == nullptr) return "unknown";
  return path;
}

}  // namespace

int main(int argc, char** argv) {
  // By name, as the loader binds the calls. The address of a function, taken here, could be that of a stub of ours.
  const char* const functions[] = {"malloc", "free", "realloc", "aligned_alloc", "_Znwm"};
  for (const char* function : functions) {
    benchmark::AddCustomContext(function, FileOf(dlsym(RTLD_DEFAULT, function)));
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  if (benchmark::RunSpecifiedBenchmarks() == 0) {
    std::fputs("micro: no benchmark has such a name; --benchmark_list_tests=true lists them\n", stderr);
    return 1;
  }
  benchmark::Shutdown();
  return 0;
}
