// SPDX-License-Identifier: Apache-2.0
//
// A process in a container with little room: is it killed, and how much memory is it charged with?
//
// Stands for services with a memory limit. Threads replace random objects, so that a given share of the limit stays
// live; or they start together, and each keeps what it allocates. Two other processes keep the CPUs busy, as neighbours
// do. Each run is a new process in a memory cgroup of its own (v1 or v2). Where none can be made, the same work is done
// without a limit, and the metric `limited` is 0.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <barrier>
#include <cstdio>
#include <cstring>

#include "bench/workloads/workload.h"

namespace {

constexpr char kChildFlag[] = "--child";
constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;
// The live bytes are replaced 16 times.
constexpr std::uint64_t kTurnover = 16;

enum Sizes : std::size_t { kSmall, kMixed, kLarge };
enum Work : std::size_t { kReplace, kKeep };

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "container: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

// ---- The process in the container ----

std::uint32_t Draw(Sizes sizes, workload::Random& random) {
  switch (sizes) {
    case kSmall:
      return 16 + random.Below(1000);
    case kMixed:
      return random.Below(100) < 95 ? 16 + random.Below(2000) : 16 + random.Below(400'000);
    case kLarge:
      return 200'000 + random.Below(4'000'000);
  }
  return 0;
}

struct Object {
  void* address;
  std::uint32_t bytes;
};

// Replaces random objects; once in a while two thirds of them go.
std::uint64_t Replace(Sizes sizes, std::uint64_t live_bytes, std::uint64_t total_bytes, std::uint64_t seed) {
  workload::Random random(seed);
  const std::uint64_t least_bytes = sizes == kLarge ? 200'000 : 16;
  // Small objects are some 500 bytes in the mean.
  const std::uint64_t most_objects = live_bytes / (sizes == kLarge ? least_bytes : 250) + 2;
  workload::MappedArray<Object> objects(most_objects);
  std::size_t count = 0;
  std::uint64_t in_use_bytes = 0;
  std::uint64_t checksum = 0;
  const auto drop = [&] {
    Object& object = objects[random.Below(static_cast<std::uint32_t>(count))];
    in_use_bytes -= object.bytes;
    checksum += workload::Release(object.address, object.bytes);
    object = objects[--count];
  };
  std::uint64_t next_fall_bytes = total_bytes / 3;
  for (std::uint64_t done_bytes = 0; done_bytes < total_bytes;) {
    const std::uint32_t bytes = Draw(sizes, random);
    while (count != 0 && (in_use_bytes + bytes > live_bytes || count == most_objects)) drop();
    if (done_bytes > next_fall_bytes) {
      next_fall_bytes += total_bytes / 3;
      for (std::size_t gone = count / 3 * 2; gone != 0; --gone) drop();
    }
    objects[count] = {workload::Allocate(bytes), bytes};
    workload::Stamp(objects[count].address, bytes, done_bytes,
                    bytes < workload::kPageBytes ? 64 : workload::kPageBytes);
    ++count;
    in_use_bytes += bytes;
    done_bytes += bytes;
  }
  while (count != 0) drop();
  return checksum;
}

// Each thread allocates its share at the same time as the others.
std::uint64_t Keep(std::uint64_t bytes, std::barrier<>& all_have_theirs) {
  constexpr std::uint32_t kBytes = 1210;
  const std::uint64_t count = bytes / kBytes;
  std::vector<void*> objects;
  objects.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    objects.push_back(workload::Allocate(kBytes));
    workload::Stamp(objects.back(), kBytes, i);
  }
  all_have_theirs.arrive_and_wait();
  std::uint64_t checksum = 0;
  for (void* object : objects) checksum += workload::Release(object, kBytes);
  return checksum;
}

// As its arguments: the group's file of processes, or "-", then numbers.
int RunChild(char** arguments) {
  if (std::strcmp(arguments[0], "-") != 0) {
    const int file = ::open(arguments[0], O_WRONLY | O_CLOEXEC);
    if (file < 0 || ::write(file, "0", 1) != 1) Fail(arguments[0]);
    ::close(file);
    // Once more, so that all memory of the process is charged to the group.
    arguments[0][0] = '-';
    arguments[0][1] = '\0';
    ::execv("/proc/self/exe", arguments - 2);
    Fail("/proc/self/exe");
  }
  std::uint64_t numbers[5];
  for (std::size_t i = 0; i < std::size(numbers); ++i) numbers[i] = std::strtoull(arguments[i + 1], nullptr, 10);
  const std::uint64_t work = numbers[0];
  const auto sizes = static_cast<Sizes>(numbers[1]);
  const std::uint64_t live_bytes = numbers[2];
  const std::uint64_t total_bytes = numbers[3];
  const std::uint64_t threads = numbers[4];
  const std::uint64_t share_bytes = live_bytes / threads;
  std::barrier<> all_have_theirs(static_cast<std::ptrdiff_t>(threads));
  const std::uint64_t checksum = workload::RunThreads(threads, [&](std::uint64_t self) {
    if (work == kKeep) return Keep(share_bytes, all_have_theirs);
    return Replace(sizes, share_bytes, total_bytes / threads, self);
  });
  return checksum == 0 ? 1 : 0;
}

// ---- The container ----

struct Group {
  std::string path;  // Empty: there is none.
  bool v2 = false;
};

bool WriteFile(const std::string& path, const std::string& text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (file < 0) return false;
  const bool written = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  ::close(file);
  return written;
}

double ReadNumber(const std::string& path) {
  double number = 0;
  if (FILE* const file = std::fopen(path.c_str(), "re")) {
    if (std::fscanf(file, "%lf", &number) != 1) number = 0;
    std::fclose(file);
  }
  return number;
}

Group MakeGroup(std::uint64_t limit_bytes) {
  const std::string name = "/tarn-bench-" + std::to_string(::getpid());
  for (const bool v2 : {false, true}) {
    const Group group = {(v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory") + name, v2};
    if (::mkdir(group.path.c_str(), 0755) != 0) continue;
    const std::string limit = v2 ? "/memory.max" : "/memory.limit_in_bytes";
    static_cast<void>(v2 && WriteFile(group.path + "/memory.swap.max", "0"));
    if (WriteFile(group.path + limit, std::to_string(limit_bytes))) return group;
    ::rmdir(group.path.c_str());
  }
  return {};
}

void RemoveGroup(const Group& group) {
  // Its last process may be on its way out.
  for (int tries = 0; tries < 100 && ::rmdir(group.path.c_str()) != 0 && errno == EBUSY; ++tries) {
    workload::SleepSeconds(0.01);
  }
}

// A process that keeps a CPU busy until this one ends it, or ends.
pid_t StartBusyProcess() {
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  while (::getppid() == parent) {
  }
  ::_exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 8 && std::strcmp(argv[1], kChildFlag) == 0) return RunChild(argv + 2);
  workload::Arguments arguments(argc, argv, "Processes in a container with little room: killed or not.");
  const std::uint64_t limit_bytes = arguments.Number("limit-mib", 64, 8, 1 << 20, "the container's limit") * kMiB;
  const std::uint64_t live_percent = arguments.Number("live-percent", 50, 1, 100, "of the limit, what stays live");
  const std::uint64_t threads = arguments.Number("threads", 2, 1, 4096, "threads, which share the live bytes");
  const std::uint64_t runs = arguments.Number("runs", 4, 1, 1000, "processes, one after the other");
  const std::uint64_t busy = arguments.Number("busy", 2, 0, 64, "other processes that keep a CPU busy");
  const std::size_t sizes = arguments.Choice("sizes", {"small", "mixed", "large"}, "to 1 KB; 400 KB; 0.2 to 4.2 MB");
  const std::size_t work = arguments.Choice("work", {"replace", "keep"}, "random objects replaced; objects that stay");
  const std::uint64_t live_bytes = limit_bytes * live_percent / 100;
  const std::uint64_t total_bytes = arguments.Scaled(live_bytes * kTurnover);
  arguments.Finish();

  std::vector<pid_t> busy_processes;
  for (std::uint64_t i = 0; i < busy; ++i) busy_processes.push_back(StartBusyProcess());
  std::uint64_t killed = 0;
  double charged_bytes = 0;
  double cpu_s = 0;
  bool limited = true;
  const workload::Stopwatch watch;
  for (std::uint64_t i = 0; i < runs; ++i) {
    const Group group = MakeGroup(limit_bytes);
    limited &= !group.path.empty();
    std::vector<std::string> words = {"container", kChildFlag, group.path.empty() ? "-" : group.path + "/cgroup.procs"};
    for (const std::uint64_t number : {work, sizes, live_bytes, total_bytes, threads}) {
      words.push_back(std::to_string(number));
    }
    std::vector<char*> child_argv;
    for (std::string& word : words) child_argv.push_back(word.data());
    child_argv.push_back(nullptr);
    pid_t pid;
    int status = 0;
    rusage usage{};
    errno = ::posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr, child_argv.data(), environ);
    if (errno != 0) Fail("posix_spawn");
    if (::wait4(pid, &status, 0, &usage) != pid) Fail("wait4");
    if (WIFSIGNALED(status)) {
      ++killed;
    } else if (status != 0) {
      Fail("a process in the container failed");
    }
    for (const timeval& time : {usage.ru_utime, usage.ru_stime}) {
      cpu_s += static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
    }
    double peak_bytes = static_cast<double>(usage.ru_maxrss) * 1024;
    if (!group.path.empty()) {
      const double charged = ReadNumber(group.path + (group.v2 ? "/memory.peak" : "/memory.max_usage_in_bytes"));
      if (charged != 0) peak_bytes = charged;
      RemoveGroup(group);
    }
    charged_bytes = std::max(charged_bytes, peak_bytes);
  }
  const double seconds = watch.Seconds();
  for (const pid_t pid : busy_processes) {
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
  }

  workload::Metrics metrics;
  metrics.Add("operations", static_cast<double>(runs));
  metrics.Add("work_s", seconds);
  metrics.Add("limited", limited ? 1 : 0);
  metrics.Add("killed", static_cast<double>(killed));
  // 1 where none is killed; without a survivor, as if the next one were it.
  metrics.Add("starts_per_survivor", static_cast<double>(killed == runs ? runs + 1 : runs) /
                                         static_cast<double>(std::max(runs - killed, std::uint64_t{1})));
  metrics.Add("charged_bytes_peak", charged_bytes);
  metrics.Add("cpu_s_per_process", cpu_s / static_cast<double>(runs));
  // A process that was killed has no checksum, so it is one of the amounts.
  return workload::Report(workload::Mix(limit_bytes + live_percent + threads + runs + total_bytes), metrics);
}
