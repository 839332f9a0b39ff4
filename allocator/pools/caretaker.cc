// SPDX-License-Identifier: Apache-2.0

#include "allocator/pools/caretaker.h"

#include <algorithm>

#include "allocator/heap/process_heap.h"
#include "allocator/os/clock.h"
#include "allocator/os/futex.h"
#include "allocator/os/process.h"
#include "allocator/os/program_thread.h"
#include "allocator/os/rights.h"
#include "allocator/os/thread_state.h"

namespace tarn {

namespace {

// Chosen: near a limit every look finds memory short, and pools shall be of some use still.
constexpr std::uint32_t kPressureEveryMs = 100;
constexpr std::uint32_t kTryAgainMs = 60'000;
// Chosen: how long the end of the process waits for a duty that is running.
constexpr std::uint32_t kExitWaitMs = 1000;
// Of the calls that change a thread's rights, libc passes on those for ids to all threads, so capabilities are left.
// The program has a thread besides its first one, or /proc does not say. `own`: how many of those counted are the
// caretaker. The scavenger's thread counts where it was there before and behind: one too many is harmless, one too few
// is not.
bool HasPlace(std::size_t own) {
  const bool scavenger_before = Scavenger::ThreadIsAlive();
  const std::size_t threads = CountThreads();
  const std::size_t scavenger = scavenger_before && Scavenger::ThreadIsAlive() ? 1 : 0;
  return threads != 1 + own + scavenger && SharesCapabilitiesWithFirstThread();
}

}  // namespace

void Caretaker::Prepare() {
  if (prepared_.load(std::memory_order_acquire)) return;
  process_id_.store(process_heap.scavenger.process_id(), std::memory_order_relaxed);
  AddForkLock(&lock_);
  // Release pairs with the acquires: a thread that sees this has its lock among the fork's locks.
  prepared_.store(true, std::memory_order_release);
}

// --- Duties come and go --------------------------------------------------------------------------------------------

void Caretaker::Ask(Duty* duty) {
  {
    SlowPathScope scope;
    LockHolder holder(lock_.lock);
    if (running_ == duty) {
      duty->asked_again = true;
    } else if (!duty->linked()) {
      waiting_.PushFront(duty);
    }
  }
  if (IsAtWork()) WakeThread();
}

bool Caretaker::IsAtWork() {
  if (alive_.load(std::memory_order_relaxed)) return true;
  if (thread_state.slow_path_depth != 0 || exiting_.load(std::memory_order_relaxed)) return false;
  // The default ends here, without a system call: a sandbox may forbid those below.
  if (!process_heap.background.MayHaveThreads()) return false;
  const std::uint32_t now_ms = CoarseMilliseconds();
  if (refused_.load(std::memory_order_relaxed) &&
      MillisecondsBetween(refused_at_ms_.load(std::memory_order_relaxed), now_ms) < kTryAgainMs) {
    return false;
  }
  if (ProcessId() != process_id_.load(std::memory_order_relaxed)) return false;
  // The answer may change with the next call of the program, and this one may be the last for a long time. So it is
  // asked for each time, and not remembered.
  if (!HasPlace(0)) return false;
  return StartThread();
}

void Caretaker::Refuse(std::uint32_t now_ms) {
  refused_at_ms_.store(now_ms, std::memory_order_relaxed);
  refused_.store(true, std::memory_order_relaxed);
}

bool Caretaker::Dismiss(Duty* duty) {
  while (true) {
    std::uint32_t done;
    {
      SlowPathScope scope;
      LockHolder holder(lock_.lock);
      if (duty->linked()) IntrusiveList<Duty>::Remove(duty);
      if (running_ != duty) return true;
      if (runner_ == ThisThread()) return false;
      done = done_word_.load(std::memory_order_relaxed);
      sleepers_.fetch_add(1, std::memory_order_relaxed);
    }
    SlowPathScope scope;
    WaitOnWord(done_word_, done, kForever);
    sleepers_.fetch_sub(1, std::memory_order_relaxed);
  }
}

// --- Rounds --------------------------------------------------------------------------------------------------------

bool Caretaker::BeginRound() {
  SlowPathScope scope;
  if (scope.nested()) return false;
  LockHolder holder(lock_.lock);
  if (runner_ != 0) return false;
  runner_ = ThisThread();
  while (Duty* duty = waiting_.PopFront()) in_round_.PushFront(duty);
  return true;
}

void Caretaker::EndRound() {
  SlowPathScope scope;
  LockHolder holder(lock_.lock);
  runner_ = 0;
  while (Duty* duty = in_round_.PopFront()) waiting_.PushFront(duty);
}

Duty* Caretaker::BeginDuty() {
  SlowPathScope scope;
  LockHolder holder(lock_.lock);
  if (exiting_.load(std::memory_order_relaxed)) return nullptr;
  running_ = in_round_.PopFront();
  if (running_ != nullptr) running_->asked_again = false;
  return running_;
}

void Caretaker::EndDuty(Duty* duty, bool again) {
  SlowPathScope scope;
  bool sleepers;
  {
    LockHolder holder(lock_.lock);
    running_ = nullptr;
    if (again || duty->asked_again) waiting_.PushFront(duty);
    done_word_.fetch_add(1, std::memory_order_relaxed);
    sleepers = sleepers_.load(std::memory_order_relaxed) != 0;
  }
  if (sleepers) WakeWaiters(done_word_);
}

std::uint32_t Caretaker::RunDuties() {
  if (!prepared_.load(std::memory_order_acquire)) return Duty::kNothingLeft;
  if (!BeginRound()) return kPressureEveryMs;
  const std::uint32_t now_ms = CoarseMilliseconds();
  bool memory_is_short = false;
  std::uint32_t next_ms = Duty::kNothingLeft;
  if (const std::uint32_t pressure = pressure_.load(std::memory_order_relaxed); pressure != pressure_seen_) {
    const std::uint32_t passed_ms = MillisecondsBetween(pressure_at_ms_, now_ms);
    if (passed_ms >= kPressureEveryMs) {
      memory_is_short = true;
      pressure_seen_ = pressure;
      pressure_at_ms_ = now_ms;
    } else {
      next_ms = kPressureEveryMs - passed_ms;
    }
  }
  bool any = false;
  while (Duty* duty = BeginDuty()) {
    const std::uint32_t wanted_ms = duty->run(duty->owner, memory_is_short);
    any = any || wanted_ms != Duty::kNothingLeft;
    next_ms = std::min(next_ms, wanted_ms);
    EndDuty(duty, wanted_ms != Duty::kNothingLeft);
  }
  EndRound();
  return any ? next_ms : Duty::kNothingLeft;
}

void Caretaker::ReportPressure() {
  pressure_.fetch_add(1, std::memory_order_relaxed);
  if (alive_.load(std::memory_order_relaxed)) WakeThread();
}

// --- The thread ----------------------------------------------------------------------------------------------------

void Caretaker::WakeThread() {
  SlowPathScope scope;  // keeps errno
  // Release pairs with the acquire in RunThread: the thread sees what it was woken for.
  wake_word_.fetch_add(1, std::memory_order_release);
  WakeWaiters(wake_word_);
}

bool Caretaker::StartThread() {
  bool first;
  {
    SlowPathScope scope;
    LockHolder holder(lock_.lock);
    if (alive_.load(std::memory_order_relaxed)) return true;
    if (!HasDuties() || process_heap.background.stopped()) return false;
    alive_.store(true, std::memory_order_relaxed);
    thread_ = 0;
    handle_state_ = HandleState::kUnknown;
    first = !knows_exit_;
    knows_exit_ = true;
  }
  if (first) CallAtExit(&OnExit);
  // Behind `alive_`, so that one caller waits.
  last_thread_.AwaitEnd();
  ProgramThread handle;
  const bool started = StartProgramThread(&RunThread, &handle);
  SlowPathScope scope;
  {
    LockHolder holder(lock_.lock);
    if (started) {
      handle_ = handle;
      handle_state_ = HandleState::kKnown;
    } else {
      alive_.store(false, std::memory_order_relaxed);
      Refuse(CoarseMilliseconds());
    }
    handle_word_.fetch_add(1, std::memory_order_relaxed);
  }
  WakeWaiters(handle_word_);
  return started;
}

void Caretaker::RunThread() {
  Caretaker& self = process_heap.caretaker;
  NameThisThread("tarn-caretaker");
  {
    SlowPathScope scope;
    LockHolder holder(self.lock_.lock);
    self.thread_ = ThisThread();
    self.last_thread_.Begin();
  }
  while (true) {
    const std::uint32_t word = self.wake_word_.load(std::memory_order_acquire);
    const bool in_place = HasPlace(1);
    const std::uint32_t next_ms = in_place ? self.RunDuties() : Duty::kNothingLeft;
    SlowPathScope scope;
    if (next_ms == Duty::kNothingLeft || process_heap.background.stopped()) {
      if (self.EndsThread(in_place)) return;
      continue;
    }
    WaitOnWord(self.wake_word_, word, next_ms);
  }
}

bool Caretaker::EndsThread(bool in_place) {
  while (true) {
    std::uint32_t word;
    {
      LockHolder holder(lock_.lock);
      if (in_place && !process_heap.background.stopped() && HasDuties() && !exiting_.load(std::memory_order_relaxed)) {
        return false;
      }
      word = handle_word_.load(std::memory_order_relaxed);
      if (handle_state_ != HandleState::kUnknown) {
        last_thread_.End();
        alive_.store(false, std::memory_order_relaxed);
        // A slow path that saw `alive_` leaves its pool to this thread. It may have found a thread of the program that
        // was not there when the threads were counted. So they are counted once more behind the store. A slow path
        // either made that thread before it, or sees the store and waits in StartThread for the lock.
        std::atomic_thread_fence(std::memory_order_seq_cst);
        if (!in_place && !process_heap.background.stopped() && HasPlace(1)) {
          alive_.store(true, std::memory_order_relaxed);
          return false;
        }
        if (handle_state_ == HandleState::kKnown) DetachThisThread();
        return true;
      }
    }
    // The thread that started this one has not got there yet.
    WaitOnWord(handle_word_, word, kForever);
  }
}

void Caretaker::Stop() {
  if (!prepared_.load(std::memory_order_acquire)) return;
  bool joins = false;
  while (!joins) {
    SlowPathScope scope;
    std::uint32_t word;
    {
      LockHolder holder(lock_.lock);
      // The thread itself ends behind the function of the program's that calls this.
      if (thread_ == ThisThread()) return;
      if (handle_state_ != HandleState::kTaken && !alive_.load(std::memory_order_relaxed)) break;
      word = handle_word_.load(std::memory_order_relaxed);
      joins = handle_state_ == HandleState::kKnown;
      if (joins) handle_state_ = HandleState::kTaken;
    }
    // It is being started, or another thread is here already.
    if (!joins) WaitOnWord(handle_word_, word, kForever);
  }
  if (joins) {
    WakeThread();
    JoinProgramThread(handle_);
    SlowPathScope scope;
    {
      LockHolder holder(lock_.lock);
      handle_state_ = HandleState::kUnknown;
      thread_ = 0;
      handle_word_.fetch_add(1, std::memory_order_relaxed);
    }
    WakeWaiters(handle_word_);
  }
  last_thread_.AwaitEnd();
}

// --- The end of the process, and its copies ------------------------------------------------------------------------

void Caretaker::OnExit() {
  Caretaker& self = process_heap.caretaker;
  SlowPathScope scope;
  self.exiting_.store(true, std::memory_order_relaxed);
  const std::uint32_t start_ms = CoarseMilliseconds();
  while (true) {
    std::uint32_t done;
    {
      LockHolder holder(self.lock_.lock);
      if (self.running_ == nullptr || self.runner_ == ThisThread()) return;
      done = self.done_word_.load(std::memory_order_relaxed);
      self.sleepers_.fetch_add(1, std::memory_order_relaxed);
    }
    WaitOnWord(self.done_word_, done, kExitWaitMs);
    self.sleepers_.fetch_sub(1, std::memory_order_relaxed);
    if (MillisecondsBetween(start_ms, CoarseMilliseconds()) >= kExitWaitMs) return;
  }
}

void Caretaker::RepairInForkedChild() TARN_NO_THREAD_SAFETY_ANALYSIS {
  if (!prepared_.load(std::memory_order_relaxed)) return;
  process_id_.store(ProcessId(), std::memory_order_relaxed);
  sleepers_.store(0, std::memory_order_relaxed);
  const std::uintptr_t self = ThisThread();
  if (thread_ != self) alive_.store(false, std::memory_order_relaxed);
  last_thread_.Forget();
  if (thread_ != self || handle_state_ != HandleState::kKnown) handle_state_ = HandleState::kUnknown;
  if (runner_ == self) return;
  runner_ = 0;
  if (running_ != nullptr) waiting_.PushFront(running_);
  running_ = nullptr;
}

}  // namespace tarn
