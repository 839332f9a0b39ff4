// SPDX-License-Identifier: Apache-2.0
//
// A call that stops after each instruction, for what a signal or another thread may do at just that moment.
//
// The processor's trap flag makes it stop: the kernel sends SIGTRAP. Not for code with restartable sequences, which
// begin again at each signal, nor under a sanitizer, whose own code would be stepped through.
#pragma once

#if defined(__x86_64__)
#define TARN_TEST_CAN_STEP 1

#include <signal.h>
#include <ucontext.h>

namespace tarn_test {

class SingleStep {
 public:
  // Calls at_step(n) in the signal handler after the n-th instruction, from 1 on. Where it returns false the rest of
  // the call runs undisturbed. Returns how many instructions were stepped through; -1: the system refused.
  template <typename Call, typename AtStep>
  static int Run(const Call& call, const AtStep& at_step) {
    struct sigaction action = {};
    action.sa_sigaction = OnTrap;
    action.sa_flags = SA_SIGINFO;
    struct sigaction before;
    if (sigaction(SIGTRAP, &action, &before) != 0) return -1;
    steps_ = 0;
    at_step_ = [](const void* context, int step) { return (*static_cast<const AtStep*>(context))(step); };
    context_ = &at_step;
    is_over_ = false;
    Begin();
    call();
    is_over_ = true;
    // Here the flag is cleared at the latest.
    asm volatile("nop" : : : "memory");
    sigaction(SIGTRAP, &before, nullptr);
    return steps_;
  }

 private:
  // Past the red zone, where a leaf function keeps what it has.
  [[gnu::noinline]] static void Begin() {
    asm volatile(
        "subq $128, %%rsp\n"
        "pushfq\n"
        "orq $0x100, (%%rsp)\n"
        "popfq\n"
        "addq $128, %%rsp\n"
        :
        :
        : "cc", "memory");
  }
  static void OnTrap(int, siginfo_t*, void* context) {
    constexpr greg_t kTrapFlag = 0x100;
    if (!is_over_) {
      const int step = steps_ + 1;
      steps_ = step;
      if (at_step_(context_, step)) return;
    }
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_EFL] &= ~kTrapFlag;
  }

  static inline volatile bool is_over_;
  static inline volatile int steps_;
  static inline bool (*at_step_)(const void*, int);
  static inline const void* context_;
};

}  // namespace tarn_test

#endif
