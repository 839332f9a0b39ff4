// SPDX-License-Identifier: Apache-2.0
//
// Registering fork handlers with libc so that the registration and a fork do not wait for each other.
#pragma once

namespace tarn {

using AtforkHandler = void (*)();
// glibc's function behind pthread_atfork; `handle` names the library of the handlers, null the program.
using RegisterAtfork = int (*)(AtforkHandler prepare, AtforkHandler parent, AtforkHandler child, void* handle);

// Calls `next`. No fork runs tarn's handlers during the call. May be nested.
int RegisterBetweenForks(RegisterAtfork next, AtforkHandler prepare, AtforkHandler parent, AtforkHandler child,
                         void* handle);

}  // namespace tarn
