// SPDX-License-Identifier: Apache-2.0
//
// System calls of one thread that stop at the door of the kernel until the test lets them go on (seccomp's user
// notification, Linux 5.5): for what happens while a thread is in the middle of something.
//
//   std::thread worker([&] { calls.Stall({SYS_madvise}); ...; calls.End(); });
//   while (calls.Await()) {     the thread is about to make such a call
//     ...
//     calls.LetGo();
//   }
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <initializer_list>
#include <vector>

namespace tarn_test {

class StalledCalls {
 public:
  // On the thread that will make the calls.
  void Stall(std::initializer_list<long> numbers) {
    std::vector<struct sock_filter> filter = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    for (const long number : numbers) {
      filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(number), 0, 1));
      filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF));
    }
    last_number_ = *numbers.begin();
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    struct sock_fprog program = {};
    program.len = static_cast<unsigned short>(filter.size());
    program.filter = filter.data();
    long listener = -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) {
      listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    }
    listener_.store(listener < 0 ? kRefused : static_cast<int>(listener));
  }
  // On that thread: there is no further call. (One more, which does nothing, wakes Await.)
  void End() {
    ended_.store(true);
    if (listener_.load() != kRefused) syscall(last_number_, 0, 0, 0, 0, 0, 0);
  }

  // Returns when the thread is at the door with the next call. False: there are no more.
  bool Await() {
    while (listener_.load() == kUnknown) sched_yield();
    if (refused()) return false;
    do {
      call_ = {};
    } while (ioctl(listener_.load(), SECCOMP_IOCTL_NOTIF_RECV, &call_) != 0);
    if (!ended_.load()) return true;
    LetGo();
    // Calls that the thread still makes by itself, at its exit, are refused from now on.
    close(listener_.load());
    return false;
  }
  // Of the call that Await saw.
  long number() const { return call_.data.nr; }
  std::uint64_t argument(int index) const { return call_.data.args[index]; }
  void LetGo() {
    struct seccomp_notif_resp answer = {};
    answer.id = call_.id;
    answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ioctl(listener_.load(), SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }
  // The system has no such filters; nothing stops then. Known after Await.
  bool refused() const { return listener_.load() == kRefused; }

 private:
  static constexpr int kUnknown = -1;
  static constexpr int kRefused = -2;

  std::atomic<int> listener_ = kUnknown;
  std::atomic<bool> ended_ = false;
  long last_number_ = 0;
  struct seccomp_notif call_ = {};
};

}  // namespace tarn_test
