// SPDX-License-Identifier: Apache-2.0
//
// Runs a program again and again, and lets one memory system call fail each time.
//
//   fault_injector [option...] CALL -- PROGRAM [argument...]
//
// CALL is mmap, munmap, madvise, process_madvise, mprotect, mremap, membarrier or any. A first run
// counts how often PROGRAM makes the call between its two marks (marker.h).
// Then, for each of them, one run lets just that call fail; and for some of
// them, one run lets that call and all later ones fail until the second mark.
// With "any" for CALL there is a number of runs instead. In each, every tenth
// call of the first six fails, as chance has it.
// The call is not made, it returns an error at once; this is done by ptrace, so
// neither program nor allocator is changed for it.
//
// A call that replaces what is mapped at a fixed address (MAP_FIXED,
// MREMAP_FIXED) may have changed something before it fails. So these fail in
// three ways in turn, or in one by --damage:
//   none   nothing has changed
//   gone   nothing is mapped at the destination any more: Linux up to 6.16,
//          when the source of mremap is more than one mapping
//   half   the first half of the pages has moved: Linux from 6.17 on
//
// A run passes if PROGRAM exits with 0. The exit code is 0 if all runs pass, 1
// if one does not, 77 if there is nothing to test (no such call, no ptrace).
//
// PROGRAM runs with LD_PRELOAD set to TARN_LIB, if that is set; the injector
// itself does not.
//
// This file knows the registers of x86-64; the build leaves it out elsewhere.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tests/base/patience.h"
#include "tests/faults/marker.h"

namespace tarn_test {
namespace {

// The calls and the errors that the kernel documents for them, taken in turn.
// EINVAL of madvise is what a kernel without the advice answers; that of
// membarrier, one without the command.
struct Target {
  std::string_view name;
  long number;
  std::array<int, 3> errors;
};

constexpr std::array<Target, 7> kTargets = {{
    {"mmap", SYS_mmap, {ENOMEM, EAGAIN, ENOMEM}},
    {"munmap", SYS_munmap, {ENOMEM, EINVAL, ENOMEM}},
    {"madvise", SYS_madvise, {ENOMEM, EAGAIN, EINVAL}},
    {"process_madvise", SYS_process_madvise, {ENOSYS, EPERM, ENOMEM}},
    {"mprotect", SYS_mprotect, {ENOMEM, EACCES, ENOMEM}},
    {"mremap", SYS_mremap, {ENOMEM, EAGAIN, EFAULT}},
    {"membarrier", SYS_membarrier, {EINVAL, EPERM, ENOMEM}},
}};

// Of the targets above, in a run of "any".
constexpr std::size_t kRandomTargets = 6;
constexpr std::uint64_t kOneCallIn = 10;

// The damage that a call with a fixed destination has done before it fails.
enum class Damage { kNone, kGone, kHalf };
constexpr std::array<std::string_view, 3> kDamageNames = {"none", "gone", "half"};

// Where the arguments of a call are, in the order in which they are passed.
constexpr std::array<std::size_t, 6> kArgumentRegisters = {
    offsetof(user_regs_struct, rdi), offsetof(user_regs_struct, rsi), offsetof(user_regs_struct, rdx),
    offsetof(user_regs_struct, r10), offsetof(user_regs_struct, r8),  offsetof(user_regs_struct, r9)};

struct Options {
  const Target* target = nullptr;
  bool random = false;  // CALL is "any".
  std::size_t random_runs = 12;
  std::size_t max_runs = 50;         // Of those that let one call fail.
  std::size_t max_onward_runs = 10;  // Of those that let all later ones fail.
  bool expect_failure = false;       // Succeed if some run does not pass.
  int damage = -1;                   // The only one, or -1: each in turn.
  std::vector<char*> command;
};

constexpr int kSkipped = 77;

// Which calls fail in a run, counted from 1. first = 0: none.
struct Plan {
  std::size_t first = 0;
  bool onward = false;
  int error = 0;
  Damage damage = Damage::kNone;
  std::uint64_t seed = 0;  // Of "any"; 0: not that.
};

struct Outcome {
  std::size_t calls = 0;     // Made between the marks.
  std::size_t injected = 0;  // Of these, failed by us.
  std::size_t damaged = 0;   // Of these, with damage.
  bool began = false;        // Both marks were seen.
  bool ended = false;
  bool traced = true;  // False if ptrace is not allowed here.
  int status = 0;      // As waitpid gives it.

  bool passed() const { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }
};

[[noreturn]] void RunProgram(const Options& options) {
  // exec keeps the alarm; nobody catches the signal, so it ends what hangs.
  // A run takes a fraction of a second.
  alarm(tarn_test::kPatienceSeconds);
  if (const char* const library = std::getenv("TARN_LIB"); library != nullptr) {
    setenv("LD_PRELOAD", library, 1);
    // The names TARN_* belong to the library's settings; these are none of them.
    unsetenv("TARN_LIB");
    unsetenv("TARN_BUILD");
  }
  const int nowhere = open("/dev/null", O_WRONLY);
  if (nowhere >= 0) dup2(nowhere, STDOUT_FILENO);
  if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(kSkipped);
  raise(SIGSTOP);
  execv(options.command.front(), options.command.data());
  std::perror(options.command.front());
  _exit(127);
}

class Tracer {
 public:
  Tracer(const Options& options, const Plan& plan) : options_(options), plan_(plan), random_(plan.seed) {}

  Outcome Run() {
    leader_ = fork();
    if (leader_ < 0) {
      std::perror("fault_injector: fork");
      std::exit(1);
    }
    if (leader_ == 0) RunProgram(options_);
    int status = 0;
    if (waitpid(leader_, &status, 0) != leader_ || !WIFSTOPPED(status)) {
      outcome_.traced = false;
      return outcome_;
    }
    // EXITKILL: the program must not outlive a killed injector.
    const long wanted = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SETOPTIONS, leader_, nullptr, wanted) != 0) {
      kill(leader_, SIGKILL);
      waitpid(leader_, &status, 0);
      outcome_.traced = false;
      return outcome_;
    }
    threads_[leader_] = Thread{.started = true};
    ptrace(PTRACE_SYSCALL, leader_, nullptr, nullptr);
    while (!done_) {
      const pid_t pid = waitpid(-1, &status, __WALL);
      if (pid < 0) {
        if (errno == EINTR) continue;
        break;
      }
      OnChange(pid, status);
    }
    return outcome_;
  }

 private:
  struct Thread {
    bool started = false;   // Its first SIGSTOP, which is ptrace's, is over.
    int pending_error = 0;  // To be returned by the call that it is in.
    // The call has other arguments than the program gave it; it gets these back.
    bool restore_arguments = false;
    std::array<std::uint64_t, 6> arguments{};
  };

  void OnChange(pid_t pid, int status) {
    if (!WIFSTOPPED(status)) {
      threads_.erase(pid);
      if (pid == leader_) {
        // The leader is reported last of all threads.
        outcome_.status = status;
        done_ = true;
      }
      return;
    }
    Thread& thread = threads_[pid];
    int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) {
      OnSystemCall(pid, thread);
      signal = 0;
    } else if (status >> 16 != 0 || signal == SIGTRAP) {
      // clone and exec report themselves; neither is a signal of the program.
      signal = 0;
    } else if (signal == SIGSTOP && !thread.started) {
      thread.started = true;
      signal = 0;
    }
    ptrace(PTRACE_SYSCALL, pid, nullptr, signal);
  }

  void OnSystemCall(pid_t pid, Thread& thread) {
    struct __ptrace_syscall_info info {};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) <= 0) return;
    if (info.op == PTRACE_SYSCALL_INFO_EXIT) {
      if (thread.pending_error != 0) {
        SetRegister(pid, offsetof(user_regs_struct, rax), -thread.pending_error);
        thread.pending_error = 0;
      }
      if (thread.restore_arguments) {
        for (std::size_t i = 0; i < 6; ++i) SetArgument(pid, i, thread.arguments[i]);
        thread.restore_arguments = false;
      }
      return;
    }
    if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return;
    const auto number = static_cast<long>(info.entry.nr);
    if (number == SYS_prctl && info.entry.args[0] == static_cast<unsigned>(kMarkOperation)) {
      const auto mark = static_cast<Mark>(info.entry.args[1]);
      outcome_.began = outcome_.began || mark == Mark::kBegin;
      outcome_.ended = outcome_.ended || mark == Mark::kEnd;
      return;
    }
    if (!outcome_.began || outcome_.ended) return;
    const auto target =
        std::find_if(kTargets.begin(), kTargets.end(), [&](const Target& t) { return t.number == number; });
    if (target == kTargets.end() ||
        (options_.random ? target - kTargets.begin() >= std::ptrdiff_t{kRandomTargets} : &*target != options_.target)) {
      return;
    }
    ++outcome_.calls;
    int error = plan_.error;
    Damage damage = plan_.damage;
    bool fails = plan_.first != 0 && (outcome_.calls == plan_.first || (plan_.onward && outcome_.calls > plan_.first));
    if (plan_.seed != 0) {
      fails = random_() % kOneCallIn == 0;
      error = target->errors[random_() % target->errors.size()];
      damage = options_.damage >= 0 ? static_cast<Damage>(options_.damage) : static_cast<Damage>(random_() % 3);
    }
    if (!fails) return;
    thread.pending_error = error;
    ++outcome_.injected;
    std::copy_n(info.entry.args, 6, thread.arguments.begin());
    if (MakeDamage(pid, number, thread.arguments, damage)) {
      thread.restore_arguments = true;
      ++outcome_.damaged;
      return;
    }
    // The kernel skips a call whose number is -1; the result is set at its exit.
    SetRegister(pid, offsetof(user_regs_struct, orig_rax), -1);
  }

  // Turns the call into one that does the damage. False: it cannot do any.
  static bool MakeDamage(pid_t pid, long number, const std::array<std::uint64_t, 6>& arguments, Damage damage) {
    const bool moves = number == SYS_mremap;
    const bool fixed =
        moves ? (arguments[3] & MREMAP_FIXED) != 0 : number == SYS_mmap && (arguments[3] & MAP_FIXED) != 0;
    if (!fixed || damage == Damage::kNone) return false;
    if (damage == Damage::kHalf && moves) {
      const auto page_bytes = static_cast<std::uint64_t>(getpagesize());
      const std::uint64_t half_bytes = arguments[2] / 2 / page_bytes * page_bytes;
      if (half_bytes == 0) return false;
      SetArgument(pid, 1, half_bytes);
      SetArgument(pid, 2, half_bytes);
      return true;
    }
    SetRegister(pid, offsetof(user_regs_struct, orig_rax), SYS_munmap);
    SetArgument(pid, 0, arguments[moves ? 4 : 0]);
    SetArgument(pid, 1, arguments[moves ? 2 : 1]);
    return true;
  }

  static void SetArgument(pid_t pid, std::size_t index, std::uint64_t value) {
    SetRegister(pid, kArgumentRegisters[index], static_cast<long>(value));
  }

  static void SetRegister(pid_t pid, std::size_t offset, long value) {
    if (ptrace(PTRACE_POKEUSER, pid, offset, value) != 0) {
      std::perror("fault_injector: PTRACE_POKEUSER");
      std::exit(1);
    }
  }

  const Options& options_;
  const Plan plan_;
  std::mt19937_64 random_;
  pid_t leader_ = -1;
  bool done_ = false;
  std::map<pid_t, Thread> threads_;
  Outcome outcome_;
};

std::string Describe(int status) {
  if (WIFEXITED(status)) return "exit code " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM) return "a hang";
  if (WIFSIGNALED(status)) return std::string("signal ") + strsignal(WTERMSIG(status));
  return "wait status " + std::to_string(status);
}

// Up to `most` numbers from 1 to `count`: the first ones without a gap, because
// every one of them may take another path, and the rest evenly spread.
std::vector<std::size_t> Choose(std::size_t count, std::size_t most) {
  std::vector<std::size_t> chosen;
  const std::size_t dense = count <= most ? count : most / 2;
  for (std::size_t n = 1; n <= dense; ++n) chosen.push_back(n);
  const std::size_t spread = std::min(most, count) - dense;
  for (std::size_t i = 1; i <= spread; ++i) chosen.push_back(dense + (count - dense) * i / spread);
  return chosen;
}

struct Tally {
  std::size_t runs = 0;
  std::size_t reached = 0;  // Runs in which a call was made to fail.
  std::size_t damaged = 0;  // And in which it did damage.
  std::size_t failures = 0;
};

void RunAll(const Options& options, std::span<const std::size_t> numbers, bool onward, Tally& tally) {
  for (const std::size_t first : numbers) {
    const int error = options.target->errors[first % options.target->errors.size()];
    // All pairs of an error and a damage come in turn.
    const std::size_t turn = first / options.target->errors.size() % kDamageNames.size();
    const auto damage = static_cast<Damage>(options.damage >= 0 ? options.damage : static_cast<int>(turn));
    const Outcome outcome = Tracer(options, Plan{first, onward, error, damage}).Run();
    ++tally.runs;
    if (outcome.injected > 0) ++tally.reached;
    if (outcome.damaged > 0) ++tally.damaged;
    if (outcome.passed()) continue;
    ++tally.failures;
    const std::string how = Describe(outcome.status);
    const std::string damaged = " (damage: " + std::string(kDamageNames[static_cast<std::size_t>(damage)]) + ")";
    std::printf("FAILED: %s number %zu%s fails with %s%s: the program ends with %s\n",
                std::string(options.target->name).c_str(), first, onward ? " and all later ones" : "",
                strerrorname_np(error), outcome.damaged > 0 ? damaged.c_str() : "", how.c_str());
    std::fflush(stdout);
    if (options.expect_failure) return;
  }
}

constexpr char kUsage[] =
    R"(usage: fault_injector [option...] CALL -- PROGRAM [argument...]
  CALL                  mmap, munmap, madvise, process_madvise, mprotect, mremap,
                        membarrier, or
                        any: each of the first six now and then
  --max-runs N          runs in which one call fails (50)
  --max-onward-runs N   runs in which it and all later ones fail (10)
  --random-runs N       runs of "any" (12)
  --damage KIND         none, gone or half (each in turn)
  --expect-failure      succeed at the first run that does not pass
)";

bool ParseOptions(int argc, char** argv, Options& options) {
  int i = 1;
  for (; i < argc && std::string_view(argv[i]) != "--"; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--expect-failure") {
      options.expect_failure = true;
    } else if (argument == "--max-runs" && i + 1 < argc) {
      options.max_runs = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--random-runs" && i + 1 < argc) {
      options.random_runs = std::strtoul(argv[++i], nullptr, 10);
    } else if (argument == "--damage" && i + 1 < argc) {
      const auto* const name = std::find(kDamageNames.begin(), kDamageNames.end(), std::string_view(argv[++i]));
      if (name == kDamageNames.end()) return false;
      options.damage = static_cast<int>(name - kDamageNames.begin());
    } else if (argument == "any") {
      options.random = true;
    } else if (argument == "--max-onward-runs" && i + 1 < argc) {
      options.max_onward_runs = std::strtoul(argv[++i], nullptr, 10);
    } else {
      const auto* const found =
          std::find_if(kTargets.begin(), kTargets.end(), [&](const Target& target) { return target.name == argument; });
      if (found == kTargets.end()) return false;
      options.target = found;
    }
  }
  for (++i; i < argc; ++i) options.command.push_back(argv[i]);
  if ((options.target == nullptr) != options.random || options.command.empty()) return false;
  options.command.push_back(nullptr);
  return true;
}

int Main(int argc, char** argv) {
  Options options;
  if (!ParseOptions(argc, argv, options)) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  const std::string name(options.random ? "any" : options.target->name);
  const Outcome counted = Tracer(options, Plan{}).Run();
  if (!counted.traced) {
    std::printf("skipped: ptrace is not allowed here\n");
    return kSkipped;
  }
  if (!counted.passed() || !counted.began || !counted.ended) {
    std::printf("FAILED: without any fault the program ends with %s%s\n", Describe(counted.status).c_str(),
                counted.began && counted.ended ? "" : ", and it does not set both marks");
    return 1;
  }
  if (counted.calls == 0) {
    std::printf("skipped: the program never calls %s\n", name.c_str());
    return kSkipped;
  }

  if (options.random) {
    std::size_t failures = 0;
    std::size_t injected = 0;
    for (std::uint64_t seed = 1; seed <= options.random_runs; ++seed) {
      const Outcome outcome = Tracer(options, Plan{.seed = seed}).Run();
      injected += outcome.injected;
      if (outcome.passed()) continue;
      ++failures;
      std::printf("FAILED: with seed %lu, after %zu calls that failed: the program ends with %s\n",
                  static_cast<unsigned long>(seed), outcome.injected, Describe(outcome.status).c_str());
    }
    std::printf("any: %zu calls; %zu runs in which every tenth fails, %zu did fail, %zu runs not passed\n",
                counted.calls, options.random_runs, injected, failures);
    return failures == 0 && injected != 0 ? 0 : 1;
  }
  Tally once;
  RunAll(options, Choose(counted.calls, options.max_runs), false, once);
  Tally onward;
  if (!options.expect_failure || once.failures == 0) {
    RunAll(options, Choose(counted.calls, options.max_onward_runs), true, onward);
  }
  std::printf(
      "%s: %zu calls; one failing: %zu runs, %zu reached it, %zu not passed; "
      "all from one on failing: %zu runs, %zu reached it, %zu not passed; damage in %zu runs\n",
      name.c_str(), counted.calls, once.runs, once.reached, once.failures, onward.runs, onward.reached, onward.failures,
      once.damaged + onward.damaged);
  const bool passed = once.failures + onward.failures == 0;
  if (options.expect_failure) return passed ? 1 : 0;
  // Threads make the number of calls vary a little, but not by half.
  if (once.reached < (once.runs + 1) / 2) {
    std::printf("FAILED: most runs did not reach the call that was to fail\n");
    return 1;
  }
  return passed ? 0 : 1;
}

}  // namespace
}  // namespace tarn_test

int main(int argc, char** argv) { return tarn_test::Main(argc, argv); }
