// SPDX-License-Identifier: Apache-2.0
//
// Reads the unwinding tables of the program (.eh_frame) for one instruction: how to get from a frame to its caller's.
//
// For the stack walk, on a miss of its cache. Reads the tables where the loader has mapped them, allocates nothing,
// takes no lock; unwind/loaded_object.h finds the table. Sources: the System V ABI for x86-64, DWARF 5 section 6.4, and
// the Linux Standard Base on .eh_frame_hdr.
//
// Only what the walk needs is worked out: the frame's address (CFA), the return address, and the two registers that
// CFAs are made of, rbp and rsp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tarn {

struct UnwindRule {
  enum class Kind : std::uint8_t {
    kNone,        // no table covers the address
    kEnd,         // the outermost frame
    kOffset,      // CFA = register + offset
    kExpression,  // CFA = value of a DWARF expression
  };
  // Where a register of the caller is found.
  enum class Place : std::uint8_t {
    kSame,
    kUndefined,
    kAtCfaPlus,       // in memory at CFA + offset
    kExpression,      // in memory at the value of an expression, which starts with the CFA
    kValueOfCfaPlus,  // CFA + offset itself
    kValueOfExpression,
  };
  struct Saved {
    Place place = Place::kSame;
    std::int32_t offset = 0;
    const std::uint8_t* expression = nullptr;  // a ULEB128 length, then that many bytes
  };

  Kind kind = Kind::kNone;
  bool signal_frame = false;      // the address was interrupted, not called from
  std::uint8_t cfa_register = 0;  // DWARF's number: 6 is rbp, 7 is rsp
  std::int32_t cfa_offset = 0;
  const std::uint8_t* cfa_expression = nullptr;
  Saved rbp;
  Saved return_address;
};

// DWARF's numbers of registers (System V ABI, figure 3.36).
inline constexpr std::uint8_t kDwarfRbp = 6;
inline constexpr std::uint8_t kDwarfRsp = 7;
inline constexpr std::uint8_t kDwarfReturnAddress = 16;

// The rule of the instruction at `address`, by the table of its object.
UnwindRule FindUnwindRule(std::uintptr_t table, std::uintptr_t address);

}  // namespace tarn
