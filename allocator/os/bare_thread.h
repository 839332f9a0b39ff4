// SPDX-License-Identifier: Apache-2.0
//
// The one thread that belongs to tarn: made without libc, so that it can be made from within malloc.
//
// pthread_create cannot be called from a slow path. It takes locks that the caller may hold already. glibc frees
// the memory of ended threads under the lock of its cache of stacks (nptl/nptl-stack.c). Such a free may be the
// very slow path that wants the thread. A signal handler may have interrupted pthread_create itself. And libc
// counts its threads: one more would keep a process alive whose last own thread has ended. So this thread is made
// by clone(2) alone. To libc it does not exist, which has consequences:
//
//   It has thread-local memory of its own, zero but for the few words that code of ours uses: thread_state, errno, the
//   id of rseq (never registered, so that no sequence runs on it). It must call nothing of libc but bare system calls
//   and functions that work on memory.
//   All signals are blocked in it, libc's own too.
//   setuid and the like do not reach it: libc changes the ids of the threads that it knows. So it begins by giving up
//   all that it does not need (thread_filter.h), and ends when the ids of the process change (ProcessIsAsItWas).
//   It takes part in fork like any other thread, that is, not at all; `__libc_single_threaded` does not know of it.
//
// The kernel counts it: /proc/self/task has one entry more, and what works only in a process with one thread (unshare
// and setns of a user namespace, unshare(2)) fails while it runs. So is there none in such a process
// (policy/background.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

enum class BareThreadStart {
  kStarted,
  kAlive,   // the last one has not quite ended; try again later
  kFailed,  // the kernel refuses, or there is none on this system
};

// How the thread begins: without anything that it does not need (thread_filter.h), or the kernel refused that. Then it
// shall end at once.
enum class BareThreadBegin { kStripped, kRefused };

// Starts `body` on the thread; `name` has at most 15 characters. `keep_stderr`: it may write
// there. `rseq_id_offset` is where the sequences read the id,
// from the thread pointer: it gets -1 there. Not in a child of vfork, and by one thread at a time. May change errno.
BareThreadStart StartBareThread(void (*body)(BareThreadBegin), const char* name, bool keep_stderr,
                                std::ptrdiff_t rseq_id_offset, std::ptrdiff_t rseq_cs_offset);

// The thread exists still, or may.
bool BareThreadIsAlive();

// The child of a fork has no such thread.
void ForgetBareThreadInForkedChild();

// Returns when there is no such thread; none is started until LetBareThread is called as often. Not with a lock held
// that the thread may wait for.
void HoldBareThread();
void LetBareThread();
// Behind HoldBareThread: returns when the kernel does not count it any more, either.
void AwaitEndOfBareThread();

// On the bare thread: somebody waits for its end.
bool BareThreadIsHeld();

// On the bare thread: the first thread has the ids with which this one began.
bool FirstThreadHasSameIds();
// The same, and the process has another thread besides these two. False: the thread has no place there any more, and
// shall end. False too where /proc does not say.
bool ProcessIsAsItWas();

// Sleeps, or returns earlier; at once when the thread is held.
void SleepUnlessHeld(std::uint32_t milliseconds);

}  // namespace tarn
