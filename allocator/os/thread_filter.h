// SPDX-License-Identifier: Apache-2.0
//
// Takes everything from the calling thread that it does not need.
#pragma once

namespace tarn {

// For tarn's thread that libc does not know, as its first act. When it returns true, the thread has
//
//   no capabilities, and no way to get any (no_new_privs);
//   a table of descriptors of its own, which is empty, and a view of the file system of its own, at the root;
//   a seccomp filter: calls about memory without PROT_EXEC, futex, membarrier, clock_gettime, exit, and what is said in
//   thread_filter.cc. Others fail with EPERM.
//
// The process keeps all of its own. The user and group ids stay what they were: to change them makes the process not
// dumpable for the kernel (commit_creds in its kernel/cred.c), which the program would see. No call that is left goes
// by an id. False: the kernel refuses one of these; then the thread shall end. `keep_stderr`: its table holds
// descriptor 2.
bool StripThread(bool keep_stderr);

}  // namespace tarn
