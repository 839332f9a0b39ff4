// SPDX-License-Identifier: Apache-2.0
//
// While it lives, the calling thread blocks all signals, and so do for good the threads that it starts.
#pragma once

#include <pthread.h>
#include <signal.h>

namespace tarn::tool {

class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace tarn::tool
