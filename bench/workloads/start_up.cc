// SPDX-License-Identifier: Apache-2.0
//
// 1000 short processes, one after the other.
//
// Stands for build systems and shell scripts. `true` is /bin/true, whose few allocations are the loader's and libc's,
// so that nothing but the allocator's start is left; `self` is this C++ program, which makes 1000 objects and ends. A
// preloaded allocator is preloaded in the processes as well.
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>

#include "bench/workloads/workload.h"

namespace {

constexpr char kChildFlag[] = "--child";

// The work of a process of `self`.
int RunChild() {
  constexpr std::size_t kObjects = 1000;
  const workload::Sizes sizes = workload::Sizes::Pareto(16, 1 << 10);
  void* objects[kObjects];
  std::uint64_t checksum = 0;
  for (std::size_t i = 0; i < kObjects; ++i) {
    objects[i] = workload::Allocate(sizes[i]);
    workload::Stamp(objects[i], sizes[i], i);
  }
  for (std::size_t i = 0; i < kObjects; ++i) checksum += workload::Release(objects[i], sizes[i]);
  // Seven bits of it, as an exit code.
  return static_cast<int>(checksum % 128);
}

[[noreturn]] void Fail(const char* program, const char* what) {
  std::fprintf(stderr, "%s: %s\n", program, what);
  std::exit(1);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2 && std::strcmp(argv[1], kChildFlag) == 0) return RunChild();
  workload::Arguments arguments(argc, argv, "Many short processes, one after the other.");
  const std::uint64_t processes = arguments.Scaled(1000);
  const bool self = arguments.Choice("program", {"true", "self"}, "/bin/true, or 1000 objects") == 1;
  arguments.Finish();

  char path[4096] = "/bin/true";
  if (self) {
    const ssize_t length = ::readlink("/proc/self/exe", path, sizeof(path) - 1);
    if (length < 0) Fail("/proc/self/exe", "cannot be read");
    path[length] = '\0';
  }
  char flag[sizeof(kChildFlag)];
  std::memcpy(flag, kChildFlag, sizeof(flag));
  char* child_argv[] = {path, self ? flag : nullptr, nullptr};

  std::uint64_t checksum = 0;
  const workload::Stopwatch watch;
  for (std::uint64_t i = 0; i < processes; ++i) {
    pid_t pid;
    int status = 0;
    const int error = ::posix_spawn(&pid, path, nullptr, nullptr, child_argv, environ);
    if (error != 0) Fail(path, std::strerror(error));
    if (::waitpid(pid, &status, 0) != pid) Fail(path, "cannot be waited for");
    if (!WIFEXITED(status)) Fail(path, "ended by a signal");
    if (!self && WEXITSTATUS(status) != 0) Fail(path, "failed");
    checksum += static_cast<std::uint64_t>(WEXITSTATUS(status)) + 1;
  }
  const double seconds = watch.Seconds();

  rusage usage{};
  ::getrusage(RUSAGE_CHILDREN, &usage);
  const auto count = static_cast<double>(processes);
  const auto milliseconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3;
  };
  workload::Metrics metrics;
  metrics.Add("operations", count);
  metrics.Add("work_s", seconds);
  metrics.Add("ms_per_process", seconds * 1e3 / count);
  metrics.Add("cpu_ms_per_process", (milliseconds(usage.ru_utime) + milliseconds(usage.ru_stime)) / count);
  // Of the child with the highest peak. It is that of this program's image, too, which the child begins as.
  metrics.Add("peak_rss_bytes_of_largest", static_cast<double>(usage.ru_maxrss) * 1024);
  metrics.Add("faults_per_process", static_cast<double>(usage.ru_minflt) / count);
  return workload::Report(checksum, metrics);
}
