// SPDX-License-Identifier: Apache-2.0
//
// The scavenger: gives memory back that the program does not use.
//
// Works in cycles. One cycle drains objects that have been idle in caches for a while, and releases whole huge pages by
// age and demand (pages/demand.h). Every TARN_RELEASE_DELAY it goes over the huge pages in use, for pages that
// have been free since the last time. A huge page that a THP backs it breaks up from a sixteenth idle on only. Who runs
// the cycles:
//
//   the slow paths of the program, as their last act, at most twice a second and for some 1 ms;
//   a thread of our own (os/bare_thread.h), where one may exist (policy/background.h). The slow path that finds the
//   page heap's request (4 MiB to gain) starts it. It ends when there was little to do for five seconds;
//   tarn_background_tick(), at times that the program chooses.
//
// The thread's CPU time is at most a hundredth of the time that passes: after each cycle it sleeps a hundred times as
// long as the cycle took, and at least half a second where nothing is due earlier. A cycle of it stops after some 20
// ms.
//
// Without the thread, nobody may come by when the program has fallen silent. So the free that lets the use fall far
// below what is resident gives back at once what is not likely to be wanted (GiveBack; pages/release_budget.h bounds
// the time).
//
// A request from outside (tarn_snapshot_release) is served by the one of these that looks next, and by any slow
// path where there is no thread; where there is one, slow paths leave it to the thread, which looks at least twice
// a second, so that nobody stands still for it. The cycle lock sees to it that one serves at a time. What can go
// wrong:
//
//   two ask at once          they use the same number and get the same answer, or the later one's lower number is
//                            written over the higher: then it is ignored here, and who misses it writes again;
//   the word is torn         a write of another process need not be one store. What is read then is a number as any
//                            other: too low, and the right one is seen at the next look; too high, and the answer is
//                            for it, which satisfies the right one, too;
//   a fork in between        the parent answers: its words are its own. The child drops what it has inherited, since it
//                            was not asked. (The cycle lock keeps a service whole in most forks; a signal handler may
//                            fork within one, which both then go on with.)
//   vfork, _Fork             such children do not answer: memory, and the question, are the parent's, or the locks may
//                            be held by threads that are not there;
//   exec, the end            the words go with the process, and who asks notices.
//
// A request for another soft limit (tarn_snapshot_limit_request) comes and is served in the same way. Of what can go
// wrong, this is different:
//
//   two ask at once          for the same limit, they have the same answer; for different ones, one of the two is set,
//                            and the other sees that from the answer. Words of both mixed have a wrong check (a product
//                            of the number is in it, so that parts of one do not fit to parts of another) and are left
//                            alone; both see that theirs are not there any more, and write again. Where both end before
//                            that, each slow path looks at the words in vain until somebody asks again, which costs it
//                            some ten nanoseconds
//   the words are torn       the check is wrong until the write has come to its end, and right at the next look
//   a limit that is too low  is kept by giving memory back within a tenth of the time, as any (policy/limits.h)
//
// It is set in no slow path and without the cycle lock, as by the program itself: a mark keeps others out, and a nested
// call of a signal handler that finds it goes on without. Who sets it looks at the limit afterwards, so that memory
// goes back at once and not only when more is wanted; that look may call the program back.
//
// Fork: the thread is not in the child, which starts its own when it may have one. A fork ends the thread and, by the
// cycle lock, waits for the end of a cycle in a slow path. So nothing is lost that is on its way. See life/fork.cc.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "allocator/base/attributes.h"
#include "allocator/include/tarn/snapshot.h"
#include "allocator/os/bare_thread.h"
#include "allocator/os/clock.h"
#include "allocator/os/lock.h"
#include "allocator/policy/parts.h"

namespace tarn {

class Scavenger {
 public:
  constexpr Scavenger() = default;

  // `trace`: a line on stderr for each cycle.
  void Init(const PolicyParts* parts, bool trace);

  // Returns whether Attend may find something to do where nothing but kScavengerWanted is set.
  bool IsTimeToAttend() const { return parts_->background->MayHaveThreads() || IsTimeForCycle(); }
  // Answers the page heap's requests. For a thread of the program that is in no slow path and holds no lock.
  void Attend();

  // One cycle, if no other thread is at it. Returns in how many milliseconds the next one is worthwhile; kNothingLeft
  // when nothing is known to become due. Called like Attend.
  static constexpr std::uint32_t kNothingLeft = UINT32_MAX;
  std::uint32_t Tick();

  // True if there is a request without an answer. Relaxed, since nothing comes with a request's number but words that
  // have a check of their own.
  bool requested() const {
    return IsUnanswered(__atomic_load_n(&release_.request, __ATOMIC_RELAXED), &release_.answered) ||
           IsUnanswered(__atomic_load_n(&limit_.request, __ATOMIC_RELAXED), &limit_.answered);
  }
  // Answers them, unless the thread will or another one does just now. Called like Attend.
  TARN_COLD void AnswerRequests();

  tarn_snapshot_scavenger Stats() const;
  const tarn_snapshot_scavenger* published() const { return &published_; }
  const tarn_snapshot_release* release_words() const { return &release_; }
  const tarn_snapshot_limit_request* limit_request_words() const { return &limit_; }

  // True if a thread of ours may hold locks, though libc may believe that the process has a single thread.
  static bool ThreadIsAlive();
  // Returns when there is none, and none will come. In no slow path, and with no lock held.
  static void StopThread();
  // The same, around a fork: none is started in between, and one that there was is started again behind it.
  void HoldThread();
  void LetThread();
  void ForgetThreadInForkedChild();
  // After a jump out of a slow path of the calling thread, which may have been a start of the thread or a request's
  // answer.
  void RepairAfterJump();
  // The stack that a cycle needs, mostly for the page heap's batches. A thread of the program touches it before it
  // takes the cycle lock: a stack overflow must leave the lock free (SlowPathScope).
  static constexpr std::size_t kCycleStackBytes = 8192;
  Lock& cycle_lock() TARN_THREAD_ANNOTATION(lock_returned(cycle_lock_)) { return cycle_lock_; }

  // As it was at the start, or at the last fork that was seen. Makes no system call.
  std::uint64_t process_id() const { return process_id_; }

 private:
  // Twice as long, and a cache that nobody used is drained (CpuCache::kIdleLooks). Chosen.
  static constexpr std::uint32_t kLookEveryMs = 500;

  struct Cycle {
    std::size_t released_bytes = 0;
    std::size_t idle_page_bytes = 0;  // of these, out of huge pages in use
    std::size_t drained_bytes = 0;
    std::size_t warm_bytes = 0;  // whole free huge pages that stay for now
    std::uint64_t cpu_ns = 0;
    std::uint32_t next_ms = kNothingLeft;
  };

  using Field = std::uint64_t tarn_snapshot_scavenger::*;
  void Add(Field field, std::uint64_t value) { __atomic_fetch_add(&(published_.*field), value, __ATOMIC_RELAXED); }
  std::uint64_t Load(Field field) const { return __atomic_load_n(&(published_.*field), __ATOMIC_RELAXED); }

  // A slow path may run a cycle: the last is long enough ago.
  bool IsTimeForCycle() const {
    return MillisecondsBetween(last_cycle_ms_.load(std::memory_order_relaxed), CoarseMilliseconds()) >= kLookEveryMs;
  }
  // True if the thread answers the page heap's requests: it is there, or starts now.
  bool StartsThread();
  void StartThread();
  static void RunThread(BareThreadBegin begin);
  // No thread is tried for a while.
  void Refuse(std::uint32_t now_ms);
  // Releases what a fall of the use left, as far as it is worth the time (pages/release_budget.h).
  void GiveBack() TARN_REQUIRES(cycle_lock_);
  // Ends after about `longest_ns`: CPU time in the thread, elapsed time elsewhere.
  Cycle RunCycle(std::uint64_t longest_ns) TARN_REQUIRES(cycle_lock_);
  void Count(const Cycle& cycle);
  static bool IsUnanswered(std::uint64_t request, const std::uint64_t* answered) {
    return static_cast<std::int64_t>(request - __atomic_load_n(answered, __ATOMIC_RELAXED)) > 0;
  }
  void ServeReleaseRequest() TARN_REQUIRES(cycle_lock_);
  // In no slow path. `may_call_back`: the thread belongs to the program.
  void ServeLimitRequest(bool may_call_back);
  // Until a request comes, or somewhat longer.
  void SleepUnlessAsked(std::uint32_t milliseconds);
  void Trace(const Cycle& cycle);

  const PolicyParts* parts_ = nullptr;
  bool trace_ = false;
  std::uint64_t process_id_ = 0;
  // The kernel refused a thread: the slow paths do its work, until it is tried again.
  std::atomic<bool> refused_ = false;
  std::atomic<std::uint32_t> refused_at_ms_ = 0;
  // The tick in which the process had one thread.
  std::atomic<std::uint32_t> alone_at_ms_ = 0;
  // The thread that starts it, or 0.
  std::atomic<std::uint32_t> starting_ = 0;
  std::atomic<bool> start_again_ = false;
  std::atomic<std::uint32_t> last_cycle_ms_ = 0;

  Lock cycle_lock_ = Lock(LockRank::kCycle);
  bool in_pass_ TARN_GUARDED_BY(cycle_lock_) = false;
  // The bytes in use when the caches were last emptied for a fall.
  std::size_t drained_at_bytes_ TARN_GUARDED_BY(cycle_lock_) = 0;
  std::uint32_t last_look_ms_ TARN_GUARDED_BY(cycle_lock_) = 0;
  std::uint32_t last_pass_ms_ TARN_GUARDED_BY(cycle_lock_) = 0;

  // Read from outside.
  tarn_snapshot_scavenger published_ = {};
  // `request`, and what comes with it, is written from outside, the rest under the cycle lock. The rest of the limit is
  // written by the thread in setting_limit_, and by a fork's child.
  tarn_snapshot_release release_ = {};
  tarn_snapshot_limit_request limit_ = {};
  std::atomic<std::uint32_t> setting_limit_ = 0;
};

}  // namespace tarn
