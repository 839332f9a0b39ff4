// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/move_pages.h"

#include <sys/mman.h>
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "allocator/base/units.h"
#include "allocator/os/stall.h"
#include "allocator/os/system_call.h"
#include "allocator/os/virtual_memory.h"

namespace tarn {

namespace {

// linux/mman.h, asm-generic/mman-common.h; older headers lack them.
constexpr int kDontUnmap = 4;    // MREMAP_DONTUNMAP, Linux 5.7
constexpr int kLockOnFault = 1;  // MLOCK_ONFAULT, Linux 4.4

// Locks the pages of the range that are resident, and later ones as they come. A refusal (RLIMIT_MEMLOCK) is final.
void LockOnFault(void* start, std::size_t bytes) { SystemCall(SYS_mlock2, start, bytes, kLockOnFault); }

bool Advise(void* start, std::size_t bytes, int advice) { return SystemCall(SYS_madvise, start, bytes, advice) == 0; }

enum class Piece : std::uint8_t {
  kMoved,
  kSeveralMappings,  // nothing has changed
  kRefused,          // nothing has changed
  kLost,             // another thread's mapping is in the destination; the contents are in the source
};

// Copies what was moved back to where it came from. The program may have protected a part of either range.
void CopyBack(char* from, char* moved, std::size_t bytes) {
  if (bytes == 0) return;
  const bool locked = IsLocked(moved, bytes);
  static_cast<void>(Commit(moved, bytes));
  static_cast<void>(Commit(from, bytes));
  std::memcpy(from, moved, bytes);
  if (locked) LockOnFault(from, bytes);
  Unreserve(moved, bytes);
}

Piece MovePiece(char* from, char* to, std::size_t bytes) {
  // MREMAP_DONTUNMAP unlocks all of the mapping that it takes a part of (mm/mremap.c), the rest of the heap too. So the
  // piece becomes a mapping of its own, by advice that changes nothing for anonymous memory.
  if (!Advise(from, bytes, MADV_RANDOM)) return Piece::kRefused;
  const long result = SystemCall(SYS_mremap, from, bytes, bytes, MREMAP_MAYMOVE | kDontUnmap, to);
  if (result < 0) return result == -EFAULT ? Piece::kSeveralMappings : Piece::kRefused;
  char* const moved = reinterpret_cast<char*>(result);
  if (moved == to) return Piece::kMoved;
  CopyBack(from, moved, bytes);
  return Piece::kLost;
}

// Half of the bytes, in whole huge pages where there are several: one that is cut becomes small pages.
std::size_t HalfOf(std::size_t bytes, std::size_t os_page_bytes) {
  return RoundUp(bytes / 2, bytes > kHugePageBytes ? std::max(kHugePageBytes, os_page_bytes) : os_page_bytes);
}

// Moves as much as the kernel moves, from the start on; returns the bytes. Nothing is mapped behind them. kLost in
// `*stopped_by`: the rest of the destination is not free any more.
std::size_t MovePieces(char* from, char* to, std::size_t bytes, Piece* stopped_by) {
  const std::size_t os_page_bytes = OsPageBytes();
  std::size_t done = 0;
  // A search by halves: what was moved last ended at a border of mappings, or there is one before `end`.
  std::size_t end = bytes;
  std::size_t piece = bytes;
  while (done < bytes) {
    *stopped_by = MovePiece(from + done, to + done, piece);
    switch (*stopped_by) {
      case Piece::kMoved:
        done += piece;
        // The border may have been just there.
        if (done == end) end = bytes;
        piece = end - done;
        break;
      case Piece::kSeveralMappings:
        if (piece <= os_page_bytes) return done;
        end = done + piece;
        piece = HalfOf(piece, os_page_bytes);
        // The border at the new end of the piece.
        if (!Advise(from + done + piece, end - done - piece, MADV_NORMAL)) {
          *stopped_by = Piece::kRefused;
          return done;
        }
        break;
      case Piece::kRefused:
      case Piece::kLost:
        return done;
    }
  }
  return done;
}

}  // namespace

MoveResult MovePages(void* from_start, void* to_start, std::size_t bytes, bool huge_pages) {
  auto* const from = static_cast<char*>(from_start);
  auto* const to = static_cast<char*>(to_start);
  NoteStall();
  // A new mapping is locked when MCL_FUTURE is in force.
  const bool locks_future = IsLocked(to, OsPageBytes());
  if (SystemCall(SYS_munmap, to, bytes) != 0) return MoveResult::kFailed;
  Piece stopped_by;
  const std::size_t moved_bytes = MovePieces(from, to, bytes, &stopped_by);
  const std::size_t left_bytes = bytes - moved_bytes;
  // One mapping for all that is left: it needs none more than there were, where the one behind it is like it.
  const bool lost = left_bytes != 0 && (stopped_by == Piece::kLost || !CommitAt(to + moved_bytes, left_bytes));
  if (lost) CopyBack(from, to, moved_bytes);
  if (moved_bytes != 0) {
    if (locks_future) LockOnFault(from, moved_bytes);
    if (!lost) static_cast<void>(Advise(to, moved_bytes, MADV_NORMAL));
  }
  if (!lost && left_bytes != 0) {
    if (huge_pages) static_cast<void>(WantHugePages(to + moved_bytes, left_bytes));
    const bool locked = !locks_future && IsLocked(from + moved_bytes, left_bytes);
    // The program may have made a part of it inaccessible.
    static_cast<void>(Commit(from + moved_bytes, left_bytes));
    std::memcpy(to + moved_bytes, from + moved_bytes, left_bytes);
    if (locked) LockOnFault(to + moved_bytes, left_bytes);
  }
  static_cast<void>(Advise(from, bytes, MADV_NORMAL));
  if (lost) return MoveResult::kFailed;
  return left_bytes == 0 ? MoveResult::kMoved : MoveResult::kCopied;
}

void ForgetAdvice(void* start, std::size_t bytes) {
  static_cast<void>(Commit(start, bytes));
  for (const int advice : {MADV_DODUMP, MADV_DOFORK, MADV_KEEPONFORK}) {
    static_cast<void>(Advise(start, bytes, advice));
  }
}

}  // namespace tarn
