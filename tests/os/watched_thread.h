// SPDX-License-Identifier: Apache-2.0
//
// A thread of which another one sees every system call of one kind before it is made, and decides about it.
//
// So a test makes an interleaving happen: while the thread stands in front of its call, the test maps memory, forks, or
// lets the call fail. It is done by seccomp's notifications (Linux 5.5), which see calls that do not go through libc.
#pragma once

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tarn_test {

struct WatchedCall {
  std::size_t number;  // from 1 on
  std::uint64_t arguments[6];
};

namespace internal {

template <typename Body>
struct WatchedThread {
  Body* body;
  long system_call;
  std::atomic<int> listener{-2};  // -1: there is none

  static void* Run(void* argument) {
    auto* const self = static_cast<WatchedThread*>(argument);
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(self->system_call), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {};
    program.len = sizeof(filter) / sizeof(filter[0]);
    program.filter = filter;
    long listener = -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0) {
      listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    }
    self->listener.store(static_cast<int>(listener));
    if (listener >= 0) (*self->body)();
    return nullptr;
  }
};

}  // namespace internal

// Runs `body` in a thread of its own. `decide` is called here for each of its calls, as a WatchedCall, and returns the
// error that the call ends with, or 0: then it is made. False: there are no notifications here, and `body` did not run.
template <typename Body, typename Decide>
bool RunWatched(long system_call, Body body, Decide decide) {
  internal::WatchedThread<Body> watched{&body, system_call};
  pthread_t thread;
  if (pthread_create(&thread, nullptr, &internal::WatchedThread<Body>::Run, &watched) != 0) return false;
  while (watched.listener.load() == -2) usleep(100);
  const int listener = watched.listener.load();
  if (listener < 0) {
    pthread_join(thread, nullptr);
    return false;
  }
  WatchedCall call = {};
  while (true) {
    struct pollfd events = {listener, POLLIN, 0};
    if (poll(&events, 1, -1) < 0) continue;
    // The thread has ended.
    if ((events.revents & POLLIN) == 0) break;
    struct seccomp_notif notification = {};
    if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &notification) != 0) continue;
    ++call.number;
    for (std::size_t i = 0; i < 6; ++i) call.arguments[i] = notification.data.args[i];
    const int error = decide(static_cast<const WatchedCall&>(call));
    struct seccomp_notif_resp response = {};
    response.id = notification.id;
    response.error = -error;
    response.flags = error == 0 ? SECCOMP_USER_NOTIF_FLAG_CONTINUE : 0;
    ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &response);
  }
  close(listener);
  pthread_join(thread, nullptr);
  return true;
}

}  // namespace tarn_test
