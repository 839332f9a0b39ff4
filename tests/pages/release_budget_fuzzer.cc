// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the budget for releases and the measure of demand, each against bounds that are computed from all events: what
// is lost is paid for, what is paid for is allowed, and what is kept was in use.
#include "allocator/pages/release_budget.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "allocator/os/clock.h"
#include "allocator/pages/demand.h"
#include "tests/fuzz/fuzzer.h"

namespace tarn {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::int64_t kNsPerMs = 1'000'000;

// The debt lies between two bounds: no multiplication, and all that a multiplication may add.
class BudgetModel {
 public:
  void Pass(std::uint32_t milliseconds) {
    if (!settled_) return;
    const std::int64_t paid_ns = std::int64_t{milliseconds} * kNsPerMs / ReleaseBudget::kTimeDivisor;
    least_ns_ = std::max(least_ns_ - paid_ns - 1, -ReleaseBudget::kMostCreditNs);
    most_ns_ = std::max(most_ns_ - paid_ns + 1, -ReleaseBudget::kMostCreditNs);
  }
  // Time counts from the first event on.
  void Begin() { settled_ = true; }
  void Return(std::size_t bytes) {
    // The page faults alone; and with them a release as slow as one can seem.
    const auto least_ns = static_cast<std::int64_t>(ReleaseBudget::kFaultNsPerMiB * bytes / kMiB);
    least_ns_ += least_ns;
    most_ns_ = std::max(most_ns_ + 2 * least_ns + 2, ReleaseBudget::kLongestDebtNs);
  }
  // Each settling rounds once, down.
  void Check(bool allowed) const {
    if (allowed) FUZZ_REQUIRE(least_ns_ <= ReleaseBudget::kNoDebtNs);
    if (!allowed) FUZZ_REQUIRE(most_ns_ > ReleaseBudget::kNoDebtNs);
  }

 private:
  std::int64_t least_ns_ = 0;
  std::int64_t most_ns_ = 0;
  bool settled_ = false;
};

class DisplacingModel {
 public:
  void Pass(std::uint32_t milliseconds) { passed_ms_ += milliseconds; }
  void Displace(std::size_t bytes, std::uint64_t ns) {
    lost_ns_ += static_cast<std::int64_t>(ReleaseBudget::kFaultNsPerMiB * bytes / kMiB);
    most_lost_ns_ += static_cast<std::int64_t>(ReleaseBudget::kFaultNsPerMiB * (bytes / kMiB + 1) + ns);
  }
  void Check(bool allowed) const {
    const std::int64_t paid_ns = passed_ms_ * kNsPerMs / ReleaseBudget::kDisplacingTimeDivisor;
    if (allowed) FUZZ_REQUIRE(lost_ns_ <= paid_ns + ReleaseBudget::kMostDisplacingCreditNs);
    if (!allowed) FUZZ_REQUIRE(most_lost_ns_ > 0);
  }

 private:
  std::int64_t passed_ms_ = 0;
  std::int64_t lost_ns_ = 0;
  std::int64_t most_lost_ns_ = 0;
};

class DemandModel {
 public:
  void NoteFree(std::size_t bytes, std::uint64_t now_ms) { frees_.push_back({now_ms, bytes}); }
  void NoteReturn(std::uint64_t now_ms) {
    ++returned_;
    returned_at_ms_ = now_ms;
  }
  void Check(Demand* demand, std::uint64_t now_ms) const {
    const std::uint64_t window_ms = demand->short_window_ms();
    std::size_t least = 0;
    std::size_t most = 0;
    for (const auto& [at_ms, bytes] : frees_) {
      if (now_ms - at_ms < window_ms) least = std::max(least, bytes);
      // A peak is forgotten when two windows have begun since; each begins with an event.
      if (now_ms - at_ms < 3 * window_ms) most = std::max(most, bytes);
    }
    const std::size_t peak = demand->RecentPeakBytes(static_cast<std::uint32_t>(now_ms));
    FUZZ_REQUIRE(least <= peak && peak <= most);
    const std::size_t kept = demand->KeptHugePages(static_cast<std::uint32_t>(now_ms));
    FUZZ_REQUIRE(kept <= returned_);
    if (now_ms - returned_at_ms_ >= Demand::kLongestKeptMs) FUZZ_REQUIRE(kept == 0);
  }

 private:
  struct Free {
    std::uint64_t at_ms;
    std::size_t bytes;
  };
  std::vector<Free> frees_;
  std::size_t returned_ = 0;
  std::uint64_t returned_at_ms_ = 0;
};

class Fuzzer {
 public:
  explicit Fuzzer(tarn_test::Input input) : input_(input) {}

  void Run() {
    // The clock counts from the start of the machine, and wraps.
    constexpr std::uint64_t kLast = UINT32_MAX - kMostDisorderMs;
    now_ms_ = input_.OneIn(2) ? kLast - input_.Number(2) : 1 + input_.Below(kLast);
    // From here on, no moment is 0.
    demand_.NoteFree(0, now_ms());
    while (!input_.empty()) Step();
  }

 private:
  std::uint32_t now_ms() const { return static_cast<std::uint32_t>(now_ms_); }
  std::size_t Bytes() { return input_.OneIn(2) ? input_.Number(2) * 8192 : input_.Below(5000) * kMiB; }

  void Step() {
    switch (input_.Byte() % 8) {
      case 0:
      case 1:
        return Pass(input_.OneIn(2) ? input_.Number(1) : input_.Number(2));
      case 2: {
        const std::size_t bytes = Bytes();
        budget_.NoteRelease(bytes, input_.Number(4), now_ms());
        if (bytes != 0) budget_model_.Begin();
        return;
      }
      case 3: {
        const std::size_t bytes = Bytes();
        budget_.NoteReturn(bytes, now_ms());
        budget_model_.Begin();
        return budget_model_.Return(bytes);
      }
      case 4:
        return budget_model_.Check(budget_.Allows(now_ms()));
      case 5: {
        if (input_.OneIn(2)) return displacing_model_.Check(budget_.AllowsDisplacing(now_ms()));
        const std::size_t bytes = Bytes();
        const std::uint64_t ns = input_.Number(3);
        budget_.NoteDisplaced(bytes, ns);
        return displacing_model_.Displace(bytes, ns);
      }
      case 6: {
        const std::size_t bytes = Bytes();
        demand_.NoteFree(bytes, now_ms());
        return demand_model_.NoteFree(bytes, now_ms_);
      }
      default:
        if (input_.OneIn(4)) {
          demand_.NoteReturn(now_ms() - static_cast<std::uint32_t>(input_.Number(2)), now_ms());
          demand_model_.NoteReturn(now_ms_);
        }
        return demand_model_.Check(&demand_, now_ms_);
    }
  }

  void Pass(std::uint64_t milliseconds) {
    now_ms_ += milliseconds;
    // 0 stands for "never".
    if (now_ms() == 0) ++now_ms_, ++milliseconds;
    budget_model_.Pass(static_cast<std::uint32_t>(milliseconds));
    displacing_model_.Pass(static_cast<std::uint32_t>(milliseconds));
  }

  tarn_test::Input input_;
  std::uint64_t now_ms_ = 1;
  ReleaseBudget budget_;
  Demand demand_;
  BudgetModel budget_model_;
  DisplacingModel displacing_model_;
  DemandModel demand_model_;
};

}  // namespace
}  // namespace tarn

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn::Fuzzer(tarn_test::Input(data, size)).Run();
  return 0;
}
