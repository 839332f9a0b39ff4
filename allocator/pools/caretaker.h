// SPDX-License-Identifier: Apache-2.0
//
// The caretaker: does what pools of the user's API have to do while nobody calls them.
//
// A pool of recycled objects destroys what nobody asks for, and everything when memory is short. Destroying runs
// functions of the program, which may allocate, lock, and end other pools. So the scavenger cannot run them, whose
// thread libc does not know (os/bare_thread.h). Nor can an allocation, whose thread may hold a lock that such a
// function needs. Hence an ordinary thread, where the user allows tarn to have threads (policy/background.h). It exists
// only while there is a duty:
//
//   Ask      a pool that has got its first object asks for care; that starts or wakes the thread. Called by a function
//            of the pool, outside of all locks, where the program could just as well have made a thread itself;
//   a duty   runs at once and then as often as it says, until it says that nothing is left; then it has to Ask again;
//   the end  of the thread comes with that of the last duty. It ends too when the process has no other thread besides
//            its first one, and when the first one has other capabilities: of the calls that change a thread's rights,
//            libc passes on to all threads those that change ids. The next call of a pool brings it back when that has
//            changed. What is a thread's own beside these, a seccomp filter or no_new_privs, it has from the thread
//            that called the pool first, like each thread of the program. Nothing keeps a process alive whose own
//            threads have ended.
//
// By default there is none. Then pools look after themselves on slow paths of their calls, and tarn_background_tick()
// runs the duties on the program's thread. Neither makes a system call that malloc would not
// make.
//
// Rounds: a runner takes duties from a list, one at a time, with no lock held while it runs; there is one runner at a
// time. Dismiss waits for the duty that is running. The child of a fork puts back what a runner had in hand that is no
// more. From exit on no duty starts, because the objects that the program's functions rely on go.
#pragma once

#include <atomic>
#include <cstdint>

#include "allocator/base/intrusive_list.h"
#include "allocator/life/fork_locks.h"
#include "allocator/os/last_thread.h"
#include "allocator/os/program_thread.h"

namespace tarn {

struct Duty : ListLink<Duty> {
  static constexpr std::uint32_t kNothingLeft = UINT32_MAX;
  // Returns in how many milliseconds it wants to run again. `memory_is_short`: give up what can be given up.
  std::uint32_t (*run)(void* owner, bool memory_is_short) = nullptr;
  void* owner = nullptr;
  // Asked for while it runs. Under the caretaker's lock.
  bool asked_again = false;
};

class Caretaker {
 public:
  constexpr Caretaker() = default;

  // Before the first duty; may be called again. (Not at the process's start, to touch no memory in those without
  // pools.)
  void Prepare();

  // These two: in no slow path, with no lock held. The duty is run from now on, as long as it has something to do.
  void Ask(Duty* duty);
  // Starts the thread where there is none but could be. False: nobody runs duties but those who need them.
  bool IsAtWork();
  // When it returns the duty is not running and will not run. False: it is the duty itself that calls, and still runs.
  [[nodiscard]] bool Dismiss(Duty* duty);

  // Runs all duties once, if nobody else is at it. Returns in how many milliseconds the next one is due; kNothingLeft:
  // not before the next Ask. In no slow path, with no lock held.
  std::uint32_t RunDuties();

  // Memory is short: lets all duties know, at most ten times per second. From anywhere, takes no lock.
  void ReportPressure();
  // Counts the reports.
  std::uint32_t pressure() const { return pressure_.load(std::memory_order_relaxed); }

  // Returns when the thread has ended, which Background::Stop keeps from coming back. Where the thread itself calls, it
  // ends behind the function that it runs. In no slow path, with no lock held.
  void Stop();

  void RepairInForkedChild();

 private:
  static void RunThread();
  static void OnExit();
  bool StartThread();
  // True if the thread, which has nothing to do or no place any more, ends. Then it is not alive for others.
  bool EndsThread(bool in_place);
  // No thread is tried for a while.
  void Refuse(std::uint32_t now_ms);
  // Also what another thread has in hand: it comes back without anybody asking.
  bool HasDuties() TARN_REQUIRES(lock_.lock) { return !waiting_.empty() || !in_round_.empty() || running_ != nullptr; }
  bool BeginRound();
  void EndRound();
  Duty* BeginDuty();
  void EndDuty(Duty* duty, bool again);
  // Changes the word that the thread sleeps on.
  void WakeThread();

  // Of the process that prepared, or of a forked child: a child of vfork is another process with the same memory.
  std::atomic<std::uint64_t> process_id_ = 0;
  std::atomic<bool> prepared_ = false;
  std::atomic<bool> exiting_ = false;
  std::atomic<bool> alive_ = false;  // there is the thread, or it is about to begin; changes under the lock
  std::atomic<bool> refused_ = false;
  std::atomic<std::uint32_t> refused_at_ms_ = 0;
  std::atomic<std::uint32_t> pressure_ = 0;
  std::atomic<std::uint32_t> wake_word_ = 0;
  std::atomic<std::uint32_t> done_word_ = 0;  // counts the ends of duties, to sleep on
  std::atomic<std::uint32_t> sleepers_ = 0;   // there; changes upwards under the lock

  ForkLock lock_;
  IntrusiveList<Duty> waiting_ TARN_GUARDED_BY(lock_.lock);   // for the next round
  IntrusiveList<Duty> in_round_ TARN_GUARDED_BY(lock_.lock);  // for the one under way
  Duty* running_ TARN_GUARDED_BY(lock_.lock) = nullptr;
  std::uintptr_t runner_ TARN_GUARDED_BY(lock_.lock) = 0;  // the thread of the round, 0: none is under way
  LastThread last_thread_;
  std::uintptr_t thread_ TARN_GUARDED_BY(lock_.lock) = 0;
  // Of the thread that is alive. One of two lets it go: the thread itself, or the one that takes the handle to join it.
  enum class HandleState : std::uint8_t { kUnknown, kKnown, kTaken };
  HandleState handle_state_ TARN_GUARDED_BY(lock_.lock) = HandleState::kUnknown;
  // Written under the lock, by the one that started the thread; read by the one that has taken it.
  ProgramThread handle_ = 0;
  std::atomic<std::uint32_t> handle_word_ = 0;  // counts the changes of the state, to sleep on
  bool knows_exit_ TARN_GUARDED_BY(lock_.lock) = false;

  // The runner's own.
  std::uint32_t pressure_seen_ = 0;
  std::uint32_t pressure_at_ms_ = 0;
};

}  // namespace tarn
