// SPDX-License-Identifier: Apache-2.0

#include <atomic>
#include <bit>
#include <type_traits>

#include "allocator/base/attributes.h"
#include "allocator/base/units.h"
#include "allocator/os/process.h"
#include "allocator/os/stack_memory.h"
#include "allocator/unwind/eh_frame.h"
#include "allocator/unwind/loaded_object.h"
#include "allocator/unwind/stack_walk.h"

namespace tarn {

namespace {

// --- The cache of rules --------------------------------------------------------------------------------------------

struct CachedRule {
  std::uintptr_t address = 0;
  std::uintptr_t table = 0;
  UnwindRule rule;
};
static_assert(std::is_trivially_copyable_v<CachedRule> && sizeof(CachedRule) % sizeof(std::uint64_t) == 0);

// By address, direct-mapped. A sequence lock per entry: a reader that sees the sequence change, and a writer that finds
// it odd, do without the cache. Words are copied one by one, because both may happen at once.
class RuleCache {
 public:
  bool Find(std::uintptr_t address, std::uintptr_t table, UnwindRule* rule) {
    Entry& entry = EntryOf(address);
    const std::uint32_t sequence = entry.sequence.load(std::memory_order_acquire);
    if (sequence % 2 != 0) return false;
    std::uint64_t words[kWords];
    for (std::size_t i = 0; i < kWords; ++i) words[i] = entry.words[i].load(std::memory_order_relaxed);
    // Pairs with the release of the writer's odd number: a torn copy has another number.
    std::atomic_thread_fence(std::memory_order_acquire);
    if (entry.sequence.load(std::memory_order_relaxed) != sequence) return false;
    const auto cached = std::bit_cast<CachedRule>(words);
    if (cached.address != address || cached.table != table) return false;
    *rule = cached.rule;
    return true;
  }

  void Put(std::uintptr_t address, std::uintptr_t table, const UnwindRule& rule) {
    Entry& entry = EntryOf(address);
    std::uint32_t sequence = entry.sequence.load(std::memory_order_relaxed);
    if (sequence % 2 != 0) return;
    if (!entry.sequence.compare_exchange_strong(sequence, sequence + 1, std::memory_order_acquire,
                                                std::memory_order_relaxed)) {
      return;
    }
    std::atomic_thread_fence(std::memory_order_release);
    CachedRule cached;
    cached.address = address;
    cached.table = table;
    cached.rule = rule;
    struct Words {
      std::uint64_t words[kWords];
    };
    const auto words = std::bit_cast<Words>(cached);
    for (std::size_t i = 0; i < kWords; ++i) entry.words[i].store(words.words[i], std::memory_order_relaxed);
    entry.sequence.store(sequence + 2, std::memory_order_release);
  }

 private:
  static constexpr std::size_t kWords = sizeof(CachedRule) / sizeof(std::uint64_t);
  // Chosen: a program's hot stacks have some hundred call sites.
  static constexpr std::size_t kEntries = 1024;

  struct Entry {
    std::atomic<std::uint32_t> sequence;
    std::atomic<std::uint64_t> words[kWords];
  };

  Entry& EntryOf(std::uintptr_t address) {
    return entries_[(address * 0x9E3779B97F4A7C15) >> (64 - std::countr_zero(kEntries))];
  }

  Entry entries_[kEntries] = {};
};

constinit RuleCache rule_cache;

UnwindRule RuleOf(std::uintptr_t address, std::uintptr_t table) {
  UnwindRule rule;
  if (table == 0 || rule_cache.Find(address, table, &rule)) return rule;
  rule = FindUnwindRule(table, address);
  rule_cache.Put(address, table, rule);
  return rule;
}

// --- Frames --------------------------------------------------------------------------------------------------------

class Walker {
 public:
  Walker(std::uintptr_t pc, std::uintptr_t sp, std::uintptr_t bp, bool interrupted = false)
      : pc_(pc), sp_(sp), bp_(bp), interrupted_(interrupted) {
    readable_page_ = sp / kOsPageBytes;
  }

  std::uintptr_t call_site() const { return interrupted_ ? pc_ : pc_ - 1; }
  // Where the frame's return address stood; 0: on no known place of the stack.
  std::uintptr_t place() const { return place_; }
  // Of the object that the frame's code lies in.
  std::uintptr_t table() {
    const std::uintptr_t address = call_site();
    // Frames of one object come in rows.
    if (!object_.Covers(address)) object_ = FindLoadedObject(address);
    return object_.table;
  }

  // To the caller's frame. False: there is none, or it cannot be found.
  bool Up() {
    const UnwindRule rule = RuleOf(call_site(), table());
    switch (rule.kind) {
      case UnwindRule::Kind::kEnd:
        return false;
      case UnwindRule::Kind::kNone:
        return UpByFramePointer();
      default:
        return UpByRule(rule);
    }
  }

 private:
  // The smallest page that any kernel for this architecture has.
  static constexpr std::uintptr_t kOsPageBytes = 4096;
  // A frame larger than this is taken for nonsense where only the frame pointer speaks for it.
  static constexpr std::uintptr_t kMaxFrameBytes = std::uintptr_t{1} << 20;

  bool Load(std::uintptr_t address, std::uintptr_t* value) {
    if (address % sizeof *value != 0) return false;
    if (address / kOsPageBytes != readable_page_) {
      if (!IsReadable(address)) return false;
      readable_page_ = address / kOsPageBytes;
    }
    *value = *reinterpret_cast<const volatile std::uintptr_t*>(address);
    return true;
  }

  bool UpByFramePointer() {
    std::uintptr_t caller_pc;
    std::uintptr_t caller_bp;
    if (bp_ < sp_ || bp_ - sp_ > kMaxFrameBytes) return false;
    if (!Load(bp_, &caller_bp) || !Load(bp_ + 8, &caller_pc)) return false;
    place_ = bp_ + 8;
    return Arrive(caller_pc, bp_ + 16, caller_bp, false);
  }

  bool UpByRule(const UnwindRule& rule) {
    std::uintptr_t cfa;
    if (rule.kind == UnwindRule::Kind::kExpression) {
      if (!Evaluate(rule.cfa_expression, nullptr, &cfa)) return false;
    } else if (rule.cfa_register == kDwarfRsp || rule.cfa_register == kDwarfRbp) {
      cfa = (rule.cfa_register == kDwarfRsp ? sp_ : bp_) + static_cast<std::uintptr_t>(std::intptr_t{rule.cfa_offset});
    } else {
      return false;
    }
    std::uintptr_t caller_pc;
    std::uintptr_t caller_bp;
    if (!Restore(rule.return_address, cfa, pc_, &caller_pc) || !Restore(rule.rbp, cfa, bp_, &caller_bp)) return false;
    const bool is_on_stack = rule.return_address.place == UnwindRule::Place::kAtCfaPlus && !rule.signal_frame;
    place_ = is_on_stack ? cfa + static_cast<std::uintptr_t>(std::intptr_t{rule.return_address.offset}) : 0;
    return Arrive(caller_pc, cfa, caller_bp, rule.signal_frame);
  }

  bool Restore(const UnwindRule::Saved& saved, std::uintptr_t cfa, std::uintptr_t same, std::uintptr_t* value) {
    const std::uintptr_t beside_cfa = cfa + static_cast<std::uintptr_t>(std::intptr_t{saved.offset});
    switch (saved.place) {
      case UnwindRule::Place::kSame:
        *value = same;
        return true;
      case UnwindRule::Place::kUndefined:
        *value = 0;
        return true;
      case UnwindRule::Place::kAtCfaPlus:
        return Load(beside_cfa, value);
      case UnwindRule::Place::kValueOfCfaPlus:
        *value = beside_cfa;
        return true;
      case UnwindRule::Place::kExpression: {
        std::uintptr_t address;
        return Evaluate(saved.expression, &cfa, &address) && Load(address, value);
      }
      case UnwindRule::Place::kValueOfExpression:
        return Evaluate(saved.expression, &cfa, value);
    }
    return false;
  }

  bool Arrive(std::uintptr_t pc, std::uintptr_t sp, std::uintptr_t bp, bool interrupted) {
    // Stacks grow down, so a caller's frame lies higher; only a signal handler may have had a stack of its own. This
    // also ends walks that would run in a circle.
    if (pc < kOsPageBytes || (sp <= sp_ && !interrupted)) return false;
    pc_ = pc;
    sp_ = sp;
    bp_ = bp;
    interrupted_ = interrupted;
    return true;
  }

  // DWARF expressions (DWARF 5, 2.5), as far as compilers and libc use them for frames: realigned stacks, the PLT,
  // signal frames. `expression` is a block with its length in front; `first` is pushed before it begins. One switch
  // over all operations: an interpreter reads best in one piece.
  bool Evaluate(const std::uint8_t* expression, const std::uintptr_t* first, std::uintptr_t* result) {
    constexpr std::size_t kDepth = 16;
    std::uintptr_t stack[kDepth];
    std::size_t depth = 0;
    if (first != nullptr) stack[depth++] = *first;
    const std::uint8_t* at = expression;
    const auto uleb = [&at] {
      std::uint64_t value = 0;
      for (unsigned shift = 0;; shift += 7) {
        const std::uint8_t byte = *at++;
        if (shift < 64) value |= std::uint64_t{byte & 0x7Fu} << shift;
        if ((byte & 0x80) == 0) return value;
      }
    };
    const auto sleb = [&at] {
      std::uint64_t value = 0;
      unsigned shift = 0;
      std::uint8_t byte;
      do {
        byte = *at++;
        if (shift < 64) value |= std::uint64_t{byte & 0x7Fu} << shift;
        shift += 7;
      } while ((byte & 0x80) != 0);
      if (shift < 64 && (byte & 0x40) != 0) value |= ~std::uint64_t{0} << shift;
      return value;
    };
    const std::uint64_t length = uleb();
    const std::uint8_t* const end = at + length;
    while (at < end) {
      const std::uint8_t op = *at++;
      if (depth + 1 >= kDepth) return false;
      if (op >= 0x30 && op <= 0x4F) {  // DW_OP_lit
        stack[depth++] = op - 0x30u;
        continue;
      }
      if (op >= 0x70 && op <= 0x8F) {  // DW_OP_breg
        const std::uint8_t reg = static_cast<std::uint8_t>(op - 0x70);
        std::uintptr_t base;
        switch (reg) {
          case kDwarfRbp:
            base = bp_;
            break;
          case kDwarfRsp:
            base = sp_;
            break;
          case kDwarfReturnAddress:
            base = pc_;
            break;
          default:
            return false;
        }
        stack[depth++] = base + sleb();
        continue;
      }
      switch (op) {
        case 0x06:  // DW_OP_deref
          if (depth < 1 || !Load(stack[depth - 1], &stack[depth - 1])) return false;
          continue;
        case 0x08:
          stack[depth++] = *at++;
          continue;  // DW_OP_const1u
        case 0x09:
          stack[depth++] = static_cast<std::uintptr_t>(std::intptr_t{static_cast<std::int8_t>(*at++)});
          continue;
        case 0x10:
          stack[depth++] = uleb();
          continue;  // DW_OP_constu
        case 0x11:
          stack[depth++] = sleb();
          continue;  // DW_OP_consts
        case 0x12:   // DW_OP_dup
          if (depth < 1) return false;
          stack[depth] = stack[depth - 1];
          ++depth;
          continue;
        case 0x23:  // DW_OP_plus_uconst
          if (depth < 1) return false;
          stack[depth - 1] += uleb();
          continue;
      }
      if (depth < 2) return false;
      const std::uintptr_t b = stack[--depth];
      std::uintptr_t& a = stack[depth - 1];
      switch (op) {
        case 0x1A:
          a &= b;
          break;
        case 0x1C:
          a -= b;
          break;
        case 0x1E:
          a *= b;
          break;
        case 0x21:
          a |= b;
          break;
        case 0x22:
          a += b;
          break;
        case 0x24:
          a = b < 64 ? a << b : 0;
          break;
        case 0x25:
          a = b < 64 ? a >> b : 0;
          break;
        case 0x2A:
          a = static_cast<std::intptr_t>(a) >= static_cast<std::intptr_t>(b);
          break;
        default:
          return false;
      }
    }
    if (depth == 0) return false;
    *result = stack[depth - 1];
    return true;
  }

  std::uintptr_t pc_;
  std::uintptr_t sp_;
  std::uintptr_t bp_;
  bool interrupted_;
  std::uintptr_t place_ = 0;
  std::uintptr_t readable_page_;
  LoadedObject object_;
};

// The table of the allocator, if it is an object of its own; 0 if it is part of the program.
std::uintptr_t FindOwnTable(std::uintptr_t own_address) {
  const std::uintptr_t table = FindLoadedObject(own_address).table;
  return table == FindLoadedObject(ProgramEntry()).table ? 0 : table;
}

// Does not change as long as the process lives.
std::uintptr_t OwnTable(std::uintptr_t own_address) {
  constexpr std::uintptr_t kUnknown = 1;
  static constinit std::atomic<std::uintptr_t> own_table = kUnknown;
  std::uintptr_t table = own_table.load(std::memory_order_relaxed);
  if (table == kUnknown) {
    table = FindOwnTable(own_address);
    own_table.store(table, std::memory_order_relaxed);
  }
  return table;
}

void Note(std::uintptr_t place, WalkPlaces* places) {
  if (place == 0 || places->count == WalkPlaces::kMost) {
    places->known = false;
  } else {
    places->places[places->count++] = place;
  }
}

}  // namespace

TARN_NOINLINE std::size_t WalkStack(std::uintptr_t* call_sites, std::size_t max, bool* truncated, WalkPlaces* places) {
  std::uintptr_t pc;
  std::uintptr_t sp;
  std::uintptr_t bp;
  asm volatile(
      "leaq 0(%%rip), %0\n"
      "movq %%rsp, %1\n"
      "movq %%rbp, %2\n"
      : "=r"(pc), "=r"(sp), "=r"(bp));
  // One further, as if it were a return address.
  Walker walker(pc + 1, sp, bp);
  const std::uintptr_t own_table = OwnTable(pc);
  std::size_t count = 0;
  *truncated = false;
  while (walker.Up()) {
    if (places != nullptr && count != max) Note(walker.place(), places);
    if (count == 0 && own_table != 0) {
      if (walker.table() == own_table) continue;
      if (places != nullptr) places->own_count = places->count;
    }
    if (count == max) {
      *truncated = true;
      break;
    }
    call_sites[count++] = walker.call_site();
  }
  return count;
}

std::size_t WalkInterruptedStack(const StackRegisters& registers, std::uintptr_t* call_sites, std::size_t max,
                                 bool* truncated) {
  Walker walker(registers.pc, registers.sp, registers.bp, true);
  std::size_t count = 0;
  *truncated = false;
  do {
    if (count == max) {
      *truncated = true;
      break;
    }
    call_sites[count++] = walker.call_site();
  } while (walker.Up());
  return count;
}

}  // namespace tarn
