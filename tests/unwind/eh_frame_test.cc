// SPDX-License-Identifier: Apache-2.0
//
// Unwinding tables that are made by hand: which function an address belongs to, and what the instructions say of it.

#include "allocator/unwind/eh_frame.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace tarn {
namespace {

using Bytes = std::vector<std::uint8_t>;
using Kind = UnwindRule::Kind;
using Place = UnwindRule::Place;

struct Code {
  std::int32_t start;  // from the table on; nothing lies there
  std::uint32_t bytes;
  Bytes instructions;
};

struct CommonPart {
  std::uint8_t version = 1;
  std::string augmentation = "zR";
  Bytes augmentation_data = {0x1B};  // pointers are four bytes, from where they stand
  std::uint8_t return_register = kDwarfReturnAddress;
  // CFA = rsp + 8, and the return address at CFA - 8: as a call leaves it.
  Bytes instructions = {0x0C, kDwarfRsp, 8, 0x80 | kDwarfReturnAddress, 1};
};

// A table with its entries behind it, as the linker writes them. Functions are in the order of their addresses.
class Table {
 public:
  explicit Table(const std::vector<Code>& functions, const CommonPart& common = {}, std::uint8_t version = 1,
                 std::uint8_t table_encoding = 0x3B)
      : memory_(1 << 14) {
    Put({version, 0x1B, 0x03, table_encoding});
    PutRelative(Here() + 8 + functions.size() * 8);
    Put32(static_cast<std::uint32_t>(functions.size()));
    const std::size_t index = at_;
    at_ += functions.size() * 8;

    const std::size_t common_start = at_;
    Bytes body = {0, 0, 0, 0, common.version};
    for (const char letter : common.augmentation) body.push_back(static_cast<std::uint8_t>(letter));
    Append(&body, {0, 1, 0x78, common.return_register});  // the factors of code and data are 1 and -8
    if (common.augmentation.starts_with("z")) {
      body.push_back(static_cast<std::uint8_t>(common.augmentation_data.size()));
      Append(&body, common.augmentation_data);
    }
    Append(&body, common.instructions);
    PutEntry(body);

    for (std::size_t i = 0; i < functions.size(); ++i) {
      const Code& function = functions[i];
      const std::size_t entry = at_;
      std::int32_t pair[2] = {function.start, static_cast<std::int32_t>(entry)};
      std::memcpy(&memory_[index + i * 8], pair, sizeof(pair));
      Put32(static_cast<std::uint32_t>(13 + function.instructions.size()));
      Put32(static_cast<std::uint32_t>(at_ - common_start));
      PutRelative(address() + static_cast<std::uintptr_t>(function.start));
      Put32(function.bytes);
      Put({0});
      Put(function.instructions);
    }
    Put32(0);
  }

  std::uintptr_t address() const { return reinterpret_cast<std::uintptr_t>(memory_.data()); }
  // Of the instruction at this place, from the table on.
  UnwindRule RuleAt(std::size_t place) const { return FindUnwindRule(address(), address() + place); }

 private:
  static void Append(Bytes* to, const Bytes& more) { to->insert(to->end(), more.begin(), more.end()); }
  std::uintptr_t Here() const { return address() + at_; }
  void Put(const Bytes& bytes) {
    std::copy(bytes.begin(), bytes.end(), memory_.begin() + static_cast<std::ptrdiff_t>(at_));
    at_ += bytes.size();
  }
  void Put32(std::uint32_t value) {
    std::memcpy(&memory_[at_], &value, sizeof(value));
    at_ += sizeof(value);
  }
  void PutRelative(std::uintptr_t target) { Put32(static_cast<std::uint32_t>(target - Here())); }
  void PutEntry(const Bytes& body) {
    Put32(static_cast<std::uint32_t>(body.size()));
    Put(body);
  }

  Bytes memory_;
  std::size_t at_ = 0;
};

constexpr std::int32_t kStart = 0x10000;

// The rule at an offset in a function with these instructions, without expressions, which lie in the table.
UnwindRule RuleIn(const Bytes& instructions, std::size_t offset = 0, const CommonPart& common = {}) {
  return Table({{kStart, 0x1000, instructions}}, common).RuleAt(kStart + offset);
}

TEST(EhFrameTable, FindsTheFunctionOfAnAddress) {
  std::vector<Code> functions;
  for (std::uint8_t i = 0; i < 7; ++i) {
    // DW_CFA_def_cfa_offset tells them apart; behind each lies a gap.
    functions.push_back({kStart + i * 0x100, 0x80, {0x0E, static_cast<std::uint8_t>(16 + i)}});
  }
  const Table table(functions);
  for (std::size_t i = 0; i < functions.size(); ++i) {
    const std::size_t start = kStart + i * 0x100;
    for (const std::size_t offset : {0u, 1u, 0x7Fu}) {
      const UnwindRule rule = table.RuleAt(start + offset);
      EXPECT_EQ(rule.kind, Kind::kOffset);
      EXPECT_EQ(rule.cfa_register, kDwarfRsp);
      EXPECT_EQ(rule.cfa_offset, static_cast<std::int32_t>(16 + i));
    }
    EXPECT_EQ(table.RuleAt(start + 0x80).kind, Kind::kNone);
    EXPECT_EQ(table.RuleAt(start + 0xFF).kind, Kind::kNone);
  }
  EXPECT_EQ(table.RuleAt(kStart - 1).kind, Kind::kNone);
  EXPECT_EQ(table.RuleAt(0x100000).kind, Kind::kNone);
  EXPECT_EQ(Table({}).RuleAt(kStart).kind, Kind::kNone);
}

// push %rbp; mov %rsp,%rbp; ...; leave; ret
TEST(EhFrameTable, ARuleIsThatOfTheInstruction) {
  const Bytes instructions = {0x41, 0x0E, 16,        0x80 | kDwarfRbp, 2,  // 1: CFA = rsp + 16, rbp at CFA - 16
                              0x43, 0x0D, kDwarfRbp,                       // 4: CFA = rbp + 16
                              0x02, 200,  0x0C,      kDwarfRsp,        8, 0xC0 | kDwarfRbp};  // 204: as at the start
  for (const std::size_t offset : {0u, 1u, 3u, 4u, 203u, 204u, 0xFFFu}) {
    const UnwindRule rule = RuleIn(instructions, offset);
    const bool framed = offset >= 1 && offset < 204;
    EXPECT_EQ(rule.kind, Kind::kOffset) << offset;
    EXPECT_EQ(rule.cfa_register, offset >= 4 && offset < 204 ? kDwarfRbp : kDwarfRsp) << offset;
    EXPECT_EQ(rule.cfa_offset, framed ? 16 : 8) << offset;
    EXPECT_EQ(rule.rbp.place, framed ? Place::kAtCfaPlus : Place::kSame) << offset;
    EXPECT_EQ(rule.rbp.offset, framed ? -16 : 0) << offset;
    EXPECT_EQ(rule.return_address.place, Place::kAtCfaPlus) << offset;
    EXPECT_EQ(rule.return_address.offset, -8) << offset;
    EXPECT_FALSE(rule.signal_frame);
  }
}

TEST(EhFrameTable, LocationsAdvanceBySizesOfAllWidths) {
  const Bytes instructions = {0x02, 0x10, 0x0E, 1, 0x03, 0x00, 0x01, 0x0E, 2, 0x04, 0x00, 0x02, 0x00, 0x00, 0x0E, 3};
  const std::size_t changes[] = {0x10, 0x110, 0x310};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(RuleIn(instructions, changes[i] - 1).cfa_offset, i == 0 ? 8 : i) << i;
    EXPECT_EQ(RuleIn(instructions, changes[i]).cfa_offset, i + 1) << i;
  }
}

TEST(EhFrameTable, AStateIsRememberedAndRestored) {
  // Two deep, around changes of the CFA.
  const Bytes instructions = {0x0E, 16, 0x0A, 0x41, 0x0E, 24, 0x0A, 0x41, 0x0E, 32, 0x41, 0x0B, 0x41, 0x0B};
  const std::int32_t expected[] = {16, 24, 32, 24, 16};
  for (std::size_t i = 0; i < 5; ++i) EXPECT_EQ(RuleIn(instructions, i).cfa_offset, expected[i]) << i;
  EXPECT_EQ(RuleIn({0x0B}).kind, Kind::kNone) << "nothing was remembered";
  EXPECT_EQ(RuleIn(Bytes(8, 0x0A)).kind, Kind::kOffset);
  EXPECT_EQ(RuleIn(Bytes(9, 0x0A)).kind, Kind::kNone) << "deeper than is kept";
}

TEST(EhFrameTable, RegistersAreFoundInAllPlaces) {
  EXPECT_EQ(RuleIn({0x07, kDwarfRbp}).rbp.place, Place::kUndefined);
  EXPECT_EQ(RuleIn({0x09, kDwarfRbp, 3}).rbp.place, Place::kUndefined) << "in a register that is not followed";
  EXPECT_EQ(RuleIn({0x07, kDwarfRbp, 0x08, kDwarfRbp}).rbp.place, Place::kSame);
  EXPECT_EQ(RuleIn({0x07, kDwarfRbp, 0x06, kDwarfRbp}).rbp.place, Place::kSame) << "as at the start";
  const UnwindRule extended = RuleIn({0x05, kDwarfRbp, 0x81, 0x01});
  EXPECT_EQ(extended.rbp.place, Place::kAtCfaPlus);
  EXPECT_EQ(extended.rbp.offset, -8 * 129);
  EXPECT_EQ(RuleIn({0x11, kDwarfRbp, 0x7F}).rbp.offset, 8) << "a signed factor";
  const UnwindRule value = RuleIn({0x14, kDwarfRbp, 2});
  EXPECT_EQ(value.rbp.place, Place::kValueOfCfaPlus);
  EXPECT_EQ(value.rbp.offset, -16);
  EXPECT_EQ(RuleIn({0x15, kDwarfRbp, 0x7E}).rbp.offset, 16);
  // Registers that the walk does not need leave no trace.
  EXPECT_EQ(RuleIn({0x83, 5, 0x07, 12}).rbp.place, Place::kSame);
  EXPECT_EQ(RuleIn({0x12, kDwarfRbp, 0x7D}).cfa_offset, 24);
  EXPECT_EQ(RuleIn({0x13, 0x7B}).cfa_offset, 40);
}

TEST(EhFrameTable, ExpressionsAreGivenAsTheyStand) {
  const Table table({{kStart, 0x1000, {0x0F, 2, 0x77, 8, 0x41, 0x0C, kDwarfRsp, 48}}});
  const UnwindRule cfa = table.RuleAt(kStart);
  ASSERT_EQ(cfa.kind, Kind::kExpression);
  EXPECT_EQ(cfa.cfa_expression[0], 2);
  EXPECT_EQ(cfa.cfa_expression[1], 0x77);
  EXPECT_EQ(table.RuleAt(kStart + 1).cfa_offset, 48) << "what follows the block";
  const Table of_saved({{kStart, 0x1000, {0x10, kDwarfRbp, 1, 0x06, 0x16, kDwarfReturnAddress, 1, 0x12}}});
  const UnwindRule saved = of_saved.RuleAt(kStart);
  EXPECT_EQ(saved.rbp.place, Place::kExpression);
  EXPECT_EQ(saved.rbp.expression[1], 0x06);
  EXPECT_EQ(saved.return_address.place, Place::kValueOfExpression);
  EXPECT_EQ(saved.return_address.expression[1], 0x12);
}

TEST(EhFrameTable, TheOutermostFrameAndThoseOfSignalsAreMarked) {
  EXPECT_EQ(RuleIn({0x07, kDwarfReturnAddress}).kind, Kind::kEnd);
  CommonPart common;
  common.augmentation = "zRS";
  EXPECT_TRUE(RuleIn({}, 0, common).signal_frame);
  // Personality and language data are passed over, wherever they stand.
  common.augmentation = "zPLR";
  common.augmentation_data = {0x9B, 1, 2, 3, 4, 0x1B, 0x1B};
  EXPECT_EQ(RuleIn({0x0E, 32}, 0, common).cfa_offset, 32);
}

TEST(EhFrameTable, UnknownFormsAreNoRule) {
  EXPECT_EQ(RuleIn({0x3F}).kind, Kind::kNone) << "an instruction";
  EXPECT_EQ(RuleIn({0x41, 0x3F}).kind, Kind::kOffset) << "behind the address it does not matter";
  CommonPart common;
  common.version = 5;
  EXPECT_EQ(RuleIn({}, 0, common).kind, Kind::kNone);
  common.version = 3;
  EXPECT_EQ(RuleIn({}, 0, common).kind, Kind::kOffset);
  common.augmentation = "zRX";
  EXPECT_EQ(RuleIn({}, 0, common).kind, Kind::kNone);
  common = {};
  common.augmentation_data = {0x2B};  // pointers from the start of the text
  EXPECT_EQ(RuleIn({}, 0, common).kind, Kind::kNone);
  common = {};
  common.return_register = 3;
  EXPECT_EQ(RuleIn({}, 0, common).kind, Kind::kNone);
  EXPECT_EQ(Table({{kStart, 16, {}}}, {}, 2).RuleAt(kStart).kind, Kind::kNone) << "the version of the table";
  EXPECT_EQ(Table({{kStart, 16, {}}}, {}, 1, 0x1B).RuleAt(kStart).kind, Kind::kNone) << "how it is sorted";
}

}  // namespace
}  // namespace tarn
