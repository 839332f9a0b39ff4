// SPDX-License-Identifier: Apache-2.0

#include "allocator/unwind/eh_frame.h"

#include <cstring>

namespace tarn {

namespace {

// --- Encodings -----------------------------------------------------------------------------------------------------

// Pointer encodings of .eh_frame (Linux Standard Base, 10.5).
constexpr std::uint8_t kOmit = 0xFF;
constexpr std::uint8_t kIndirect = 0x80;
constexpr std::uint8_t kPcRelative = 0x10;
constexpr std::uint8_t kDataRelative = 0x30;
constexpr std::uint8_t kTableEntry = kDataRelative | 0x0B;  // four bytes, signed, from the header's start

class Cursor {
 public:
  explicit Cursor(const std::uint8_t* at) : at_(at) {}
  const std::uint8_t* at() const { return at_; }
  void Skip(std::size_t bytes) { at_ += bytes; }

  template <typename T>
  T Fixed() {
    T value;
    std::memcpy(&value, at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::uint64_t Uleb() {
    std::uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const std::uint8_t byte = *at_++;
      if (shift < 64) value |= std::uint64_t{byte & 0x7Fu} << shift;
      if ((byte & 0x80) == 0) return value;
    }
  }
  std::int64_t Sleb() {
    std::uint64_t value = 0;
    unsigned shift = 0;
    std::uint8_t byte;
    do {
      byte = *at_++;
      if (shift < 64) value |= std::uint64_t{byte & 0x7Fu} << shift;
      shift += 7;
    } while ((byte & 0x80) != 0);
    if (shift < 64 && (byte & 0x40) != 0) value |= ~std::uint64_t{0} << shift;
    return static_cast<std::int64_t>(value);
  }
  // False: an encoding that compilers do not use there.
  bool Encoded(std::uint8_t encoding, std::uintptr_t data_base, std::uintptr_t* value) {
    const auto base = reinterpret_cast<std::uintptr_t>(at_);
    switch (encoding & 0x0F) {
      case 0x00:
      case 0x04:
      case 0x0C:
        *value = Fixed<std::uint64_t>();
        break;
      case 0x01:
        *value = Uleb();
        break;
      case 0x02:
        *value = Fixed<std::uint16_t>();
        break;
      case 0x03:
        *value = Fixed<std::uint32_t>();
        break;
      case 0x09:
        *value = static_cast<std::uintptr_t>(Sleb());
        break;
      case 0x0A:
        *value = static_cast<std::uintptr_t>(std::int64_t{Fixed<std::int16_t>()});
        break;
      case 0x0B:
        *value = static_cast<std::uintptr_t>(std::int64_t{Fixed<std::int32_t>()});
        break;
      default:
        return false;
    }
    if (*value == 0) return true;
    switch (encoding & 0x70) {
      case 0:
        break;
      case kPcRelative:
        *value += base;
        break;
      case kDataRelative:
        *value += data_base;
        break;
      default:
        return false;
    }
    if ((encoding & kIndirect) != 0) std::memcpy(value, reinterpret_cast<const void*>(*value), sizeof *value);
    return true;
  }

 private:
  const std::uint8_t* at_;
};

// --- Entries -------------------------------------------------------------------------------------------------------

struct Entry {
  const std::uint8_t* start = nullptr;  // behind the length
  const std::uint8_t* end = nullptr;
};

// An entry of .eh_frame; `end` null at the terminator.
Entry ReadEntry(const std::uint8_t* at) {
  Cursor cursor(at);
  std::uint64_t length = cursor.Fixed<std::uint32_t>();
  if (length == 0xFFFFFFFF) length = cursor.Fixed<std::uint64_t>();
  if (length == 0) return {};
  return {cursor.at(), cursor.at() + length};
}

struct CommonInformation {
  std::uint64_t code_factor = 0;
  std::int64_t data_factor = 0;
  std::uint8_t pointer_encoding = 0;
  bool augmented = false;
  bool signal_frame = false;
  const std::uint8_t* instructions = nullptr;
  const std::uint8_t* end = nullptr;
};

bool ReadCommonInformation(const std::uint8_t* at, CommonInformation* cie) {
  const Entry entry = ReadEntry(at);
  if (entry.end == nullptr) return false;
  Cursor cursor(entry.start);
  if (cursor.Fixed<std::uint32_t>() != 0) return false;  // that would be a frame's entry
  const auto version = cursor.Fixed<std::uint8_t>();
  if (version != 1 && version != 3) return false;
  const char* augmentation = reinterpret_cast<const char*>(cursor.at());
  cursor.Skip(std::strlen(augmentation) + 1);
  cie->code_factor = cursor.Uleb();
  cie->data_factor = cursor.Sleb();
  const std::uint64_t return_register = version == 1 ? cursor.Fixed<std::uint8_t>() : cursor.Uleb();
  if (return_register != kDwarfReturnAddress) return false;
  if (augmentation[0] == 'z') {
    cie->augmented = true;
    const std::uint64_t length = cursor.Uleb();
    const std::uint8_t* const behind = cursor.at() + length;
    for (const char* letter = augmentation + 1; *letter != '\0'; ++letter) {
      std::uintptr_t personality;
      switch (*letter) {
        case 'R':
          cie->pointer_encoding = cursor.Fixed<std::uint8_t>();
          break;
        case 'L':
          cursor.Skip(1);
          break;
        case 'P': {
          const auto encoding = cursor.Fixed<std::uint8_t>();
          // Not followed where it points to: only skipped.
          if (!cursor.Encoded(static_cast<std::uint8_t>(encoding & ~kIndirect), 0, &personality)) return false;
          break;
        }
        case 'S':
          cie->signal_frame = true;
          break;
        case 'B':
          break;  // a key of aarch64
        default:
          return false;
      }
    }
    cursor = Cursor(behind);
  } else if (augmentation[0] != '\0') {
    return false;
  }
  cie->instructions = cursor.at();
  cie->end = entry.end;
  return true;
}

// --- The program of a frame ----------------------------------------------------------------------------------------

class Program {
 public:
  Program(const CommonInformation& cie, std::uintptr_t pc) : cie_(cie), pc_(pc) {}

  UnwindRule& rule() { return rule_; }
  void RememberInitial() { initial_ = rule_; }

  // Runs instructions until the location passes the address. False: something that is not known. One switch over all
  // instructions, in the order of DWARF 5, 6.4.2: an interpreter reads best in one piece.
  bool Run(const std::uint8_t* from, const std::uint8_t* end, std::uintptr_t location) {
    Cursor cursor(from);
    while (cursor.at() < end && location <= pc_) {
      const auto opcode = cursor.Fixed<std::uint8_t>();
      const std::uint8_t operand = opcode & 0x3F;
      switch (opcode & 0xC0) {
        case 0x40:  // DW_CFA_advance_loc
          location += operand * cie_.code_factor;
          continue;
        case 0x80:  // DW_CFA_offset
          SetOffset(operand, static_cast<std::int64_t>(cursor.Uleb()) * cie_.data_factor);
          continue;
        case 0xC0:  // DW_CFA_restore
          Restore(operand);
          continue;
      }
      switch (opcode) {
        case 0x00:
          break;      // DW_CFA_nop
        case 0x01: {  // DW_CFA_set_loc
          if (!cursor.Encoded(cie_.pointer_encoding, 0, &location)) return false;
          break;
        }
        case 0x02:
          location += cursor.Fixed<std::uint8_t>() * cie_.code_factor;
          break;
        case 0x03:
          location += cursor.Fixed<std::uint16_t>() * cie_.code_factor;
          break;
        case 0x04:
          location += cursor.Fixed<std::uint32_t>() * cie_.code_factor;
          break;
        case 0x05: {  // DW_CFA_offset_extended
          const std::uint64_t reg = cursor.Uleb();
          SetOffset(reg, static_cast<std::int64_t>(cursor.Uleb()) * cie_.data_factor);
          break;
        }
        case 0x06:
          Restore(cursor.Uleb());
          break;  // DW_CFA_restore_extended
        case 0x07:
          SetPlace(cursor.Uleb(), UnwindRule::Place::kUndefined);
          break;
        case 0x08:
          SetPlace(cursor.Uleb(), UnwindRule::Place::kSame);
          break;      // DW_CFA_same_value
        case 0x09: {  // DW_CFA_register: the walk does not follow other registers
          const std::uint64_t reg = cursor.Uleb();
          static_cast<void>(cursor.Uleb());
          SetPlace(reg, UnwindRule::Place::kUndefined);
          break;
        }
        case 0x0A:  // DW_CFA_remember_state
          if (depth_ == kMaxDepth) return false;
          stack_[depth_++] = rule_;
          break;
        case 0x0B:  // DW_CFA_restore_state
          if (depth_ == 0) return false;
          rule_ = stack_[--depth_];
          break;
        case 0x0C: {  // DW_CFA_def_cfa
          const std::uint64_t reg = cursor.Uleb();
          SetCfa(reg, static_cast<std::int64_t>(cursor.Uleb()));
          break;
        }
        case 0x0D:
          SetCfa(cursor.Uleb(), rule_.cfa_offset);
          break;  // ..._register
        case 0x0E:
          SetCfa(rule_.cfa_register, static_cast<std::int64_t>(cursor.Uleb()));
          break;    // ..._offset
        case 0x0F:  // DW_CFA_def_cfa_expression
          rule_.kind = UnwindRule::Kind::kExpression;
          rule_.cfa_expression = cursor.at();
          SkipBlock(cursor);
          break;
        case 0x10: {  // DW_CFA_expression
          const std::uint64_t reg = cursor.Uleb();
          SetPlace(reg, UnwindRule::Place::kExpression, 0, cursor.at());
          SkipBlock(cursor);
          break;
        }
        case 0x11: {  // DW_CFA_offset_extended_sf
          const std::uint64_t reg = cursor.Uleb();
          SetOffset(reg, cursor.Sleb() * cie_.data_factor);
          break;
        }
        case 0x12: {  // DW_CFA_def_cfa_sf
          const std::uint64_t reg = cursor.Uleb();
          SetCfa(reg, cursor.Sleb() * cie_.data_factor);
          break;
        }
        case 0x13:
          SetCfa(rule_.cfa_register, cursor.Sleb() * cie_.data_factor);
          break;
        case 0x14:    // DW_CFA_val_offset
        case 0x15: {  // DW_CFA_val_offset_sf
          const std::uint64_t reg = cursor.Uleb();
          const std::int64_t offset = opcode == 0x14 ? static_cast<std::int64_t>(cursor.Uleb()) : cursor.Sleb();
          SetPlace(reg, UnwindRule::Place::kValueOfCfaPlus, offset * cie_.data_factor);
          break;
        }
        case 0x16: {  // DW_CFA_val_expression
          const std::uint64_t reg = cursor.Uleb();
          SetPlace(reg, UnwindRule::Place::kValueOfExpression, 0, cursor.at());
          SkipBlock(cursor);
          break;
        }
        case 0x2E:
          static_cast<void>(cursor.Uleb());
          break;  // DW_CFA_GNU_args_size
        default:
          return false;
      }
    }
    return true;
  }

 private:
  static constexpr int kMaxDepth = 8;

  static void SkipBlock(Cursor& cursor) {
    const std::uint64_t length = cursor.Uleb();
    cursor.Skip(length);
  }

  UnwindRule::Saved* SavedOf(UnwindRule& rule, std::uint64_t reg) {
    return reg == kDwarfRbp ? &rule.rbp : reg == kDwarfReturnAddress ? &rule.return_address : nullptr;
  }
  void SetPlace(std::uint64_t reg, UnwindRule::Place place, std::int64_t offset = 0,
                const std::uint8_t* expression = nullptr) {
    if (UnwindRule::Saved* saved = SavedOf(rule_, reg)) {
      *saved = {place, static_cast<std::int32_t>(offset), expression};
    }
  }
  void SetOffset(std::uint64_t reg, std::int64_t offset) { SetPlace(reg, UnwindRule::Place::kAtCfaPlus, offset); }
  void Restore(std::uint64_t reg) {
    if (UnwindRule::Saved* saved = SavedOf(rule_, reg)) *saved = *SavedOf(initial_, reg);
  }
  void SetCfa(std::uint64_t reg, std::int64_t offset) {
    rule_.kind = UnwindRule::Kind::kOffset;
    rule_.cfa_register = static_cast<std::uint8_t>(reg > 0xFF ? 0xFF : reg);
    rule_.cfa_offset = static_cast<std::int32_t>(offset);
  }

  const CommonInformation& cie_;
  const std::uintptr_t pc_;
  UnwindRule rule_;
  UnwindRule initial_;
  UnwindRule stack_[kMaxDepth];
  int depth_ = 0;
};

// The entry of the function that holds the address, by the sorted table of .eh_frame_hdr. Null: none.
const std::uint8_t* FindFrameEntry(std::uintptr_t table, std::uintptr_t address) {
  Cursor cursor(reinterpret_cast<const std::uint8_t*>(table));
  const auto version = cursor.Fixed<std::uint8_t>();
  const auto frame_encoding = cursor.Fixed<std::uint8_t>();
  const auto count_encoding = cursor.Fixed<std::uint8_t>();
  const auto table_encoding = cursor.Fixed<std::uint8_t>();
  std::uintptr_t frame;
  std::uintptr_t count;
  if (version != 1 || count_encoding == kOmit || table_encoding != kTableEntry) return nullptr;
  if (!cursor.Encoded(frame_encoding, table, &frame) || !cursor.Encoded(count_encoding, table, &count)) return nullptr;
  if (count == 0) return nullptr;
  const auto start_of = [&](std::size_t i, std::size_t field) {
    std::int32_t offset;
    std::memcpy(&offset, cursor.at() + i * 8 + field * 4, sizeof offset);
    return table + static_cast<std::uintptr_t>(std::intptr_t{offset});
  };
  // The last function that starts at or below the address.
  std::size_t low = 0;
  std::size_t high = count;
  while (high - low > 1) {
    const std::size_t middle = low + (high - low) / 2;
    (start_of(middle, 0) <= address ? low : high) = middle;
  }
  if (start_of(low, 0) > address) return nullptr;
  return reinterpret_cast<const std::uint8_t*>(start_of(low, 1));
}

}  // namespace

UnwindRule FindUnwindRule(std::uintptr_t table, std::uintptr_t address) {
  if (table == 0) return {};
  const std::uint8_t* const found = FindFrameEntry(table, address);
  if (found == nullptr) return {};
  const Entry entry = ReadEntry(found);
  if (entry.end == nullptr) return {};
  Cursor cursor(entry.start);
  // The distance back to the common information, from here.
  const std::uint8_t* const here = cursor.at();
  const auto back = cursor.Fixed<std::uint32_t>();
  CommonInformation cie;
  if (back == 0 || !ReadCommonInformation(here - back, &cie)) return {};
  std::uintptr_t start;
  std::uintptr_t bytes;
  if (!cursor.Encoded(cie.pointer_encoding, 0, &start)) return {};
  if (!cursor.Encoded(cie.pointer_encoding & 0x0F, 0, &bytes)) return {};
  if (address < start || address - start >= bytes) return {};
  if (cie.augmented) {
    const std::uint64_t length = cursor.Uleb();
    cursor.Skip(length);
  }
  Program program(cie, address);
  // Until something is said the return address lies where the call left it.
  program.rule().return_address = {UnwindRule::Place::kAtCfaPlus, -8, nullptr};
  if (!program.Run(cie.instructions, cie.end, 0)) return {};
  program.RememberInitial();
  if (!program.Run(cursor.at(), entry.end, start)) return {};
  UnwindRule rule = program.rule();
  rule.signal_frame = cie.signal_frame;
  if (rule.return_address.place == UnwindRule::Place::kUndefined) rule.kind = UnwindRule::Kind::kEnd;
  return rule;
}

}  // namespace tarn
