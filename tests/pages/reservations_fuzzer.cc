// SPDX-License-Identifier: Apache-2.0
//
// Fuzzes the records of reservations. The oracle is a list of huge pages for each reservation, searched as a whole: a
// place is found if there is one, it is free, and no other one is preferable.
#include "allocator/pages/reservations.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "tests/fuzz/fuzzer.h"

namespace tarn {
namespace {

using Preference = Reservations::Preference;

constexpr std::size_t kMetadataBytes = std::size_t{4} << 20;
constexpr std::size_t kMostReservations = 10;

enum class State : std::uint8_t { kUsed, kCold, kWarm };

struct Model {
  Reservation* record;
  std::size_t first_number;  // of its first huge page
  std::vector<State> pages;
};

// How good a place is.
struct Place {
  bool found = false;
  std::size_t run = 0;
  std::size_t warm = 0;
};

class Fuzzer {
 public:
  explicit Fuzzer(tarn_test::Input input)
      : input_(input), block_(new std::uint64_t[kMetadataBytes / sizeof(std::uint64_t)]()) {
    metadata_.AddBlock(block_.get(), kMetadataBytes);
  }

  void Run() {
    while (!input_.empty()) {
      const std::uint8_t pick = input_.Byte() % 16;
      if (pick < 2) {
        Add();
      } else if (pick < 9) {
        Change();
      } else if (pick < 14) {
        Find();
      } else if (pick < 15) {
        Shrink();
      } else {
        Walk();
      }
    }
    Walk();
  }

 private:
  void Add() {
    if (models_.size() == kMostReservations) return;
    const std::size_t count = 1 + input_.Below(input_.OneIn(8) ? 200 : 24);
    Reservation* const record = reservations_.NewRecord(count, &metadata_);
    FUZZ_REQUIRE(record->huge_page_count == count && record->tracker_capacity >= count);
    record->first_page = PageId(0) + PageCount::FromHugePages(next_number_);
    reservations_.Add(record);
    for (const Model& other : models_) FUZZ_REQUIRE(other.record != record);
    models_.push_back({record, next_number_, std::vector<State>(count, State::kCold)});
    next_number_ += count + 1 + input_.Below(4);
    huge_pages_ += count;
  }

  Model* Any() { return models_.empty() ? nullptr : &models_[input_.Below(models_.size())]; }

  // Huge pages come into use, or become free, with memory behind them or not.
  void Change() {
    Model* const model = Any();
    if (model == nullptr) return;
    const std::size_t first = input_.Below(model->pages.size());
    const std::size_t end = std::min(first + 1 + input_.Below(8), model->pages.size());
    const auto state = static_cast<State>(input_.Below(3));
    for (std::size_t i = first; i < end; ++i) {
      HugePage* const huge_page = &model->record->huge_pages[i];
      if (state == State::kUsed) {
        if (model->pages[i] == State::kUsed) continue;
        model->record->SetUp(huge_page);
        huge_page->committed = true;
        huge_page->state = HugePageState::kPacked;
      } else if (model->pages[i] == State::kUsed) {
        model->record->Clear(huge_page);
      }
      state == State::kWarm ? model->record->warm.SetRange(i, 1) : model->record->warm.ClearRange(i, 1);
      model->pages[i] = state;
    }
  }

  // Of the place at `first`, with the run of candidates around it.
  static Place Judge(const Model& model, std::size_t first, std::size_t count, std::size_t alignment, bool zero_only) {
    const auto fits = [&](std::size_t i) {
      return model.pages[i] == State::kCold || (model.pages[i] == State::kWarm && !zero_only);
    };
    Place place;
    if ((model.first_number + first) % alignment != 0 || first + count > model.pages.size()) return place;
    for (std::size_t i = first; i < first + count; ++i) {
      if (!fits(i)) return place;
      place.warm += model.pages[i] == State::kWarm ? 1 : 0;
    }
    std::size_t begin = first;
    std::size_t end = first + count;
    while (begin != 0 && fits(begin - 1)) --begin;
    while (end != model.pages.size() && fits(end)) ++end;
    place.found = true;
    place.run = end - begin;
    return place;
  }

  void Find() {
    const std::size_t count = 1 + input_.Below(input_.OneIn(4) ? 64 : 6);
    const std::size_t alignment = std::size_t{1} << input_.Below(5);
    const auto preference = static_cast<Preference>(input_.Below(3));
    const bool zero_only = preference == Preference::kZero;
    const bool most_warm = preference == Preference::kMostWarm;
    Place best;
    for (const Model& model : models_) {
      for (std::size_t first = 0; first < model.pages.size(); ++first) {
        const Place place = Judge(model, first, count, alignment, zero_only);
        if (!place.found) continue;
        const bool warmer = most_warm && place.warm > best.warm;
        const bool as_warm = !most_warm || place.warm == best.warm;
        if (!best.found || warmer || (as_warm && place.run < best.run)) best = place;
      }
    }
    const Reservations::Place found = reservations_.Find(count, alignment, preference);
    FUZZ_REQUIRE((found.first != nullptr) == best.found);
    if (!best.found) return;
    const auto model = std::find_if(models_.begin(), models_.end(),
                                    [&](const Model& each) { return each.record == found.reservation; });
    FUZZ_REQUIRE(model != models_.end());
    const Place place = Judge(*model, found.reservation->IndexOf(found.first), count, alignment, zero_only);
    FUZZ_REQUIRE(place.found && place.run == best.run);
    FUZZ_REQUIRE(!most_warm || place.warm == best.warm);
  }

  // The end of a reservation, or all of it, goes back to the kernel.
  void Shrink() {
    Model* const model = Any();
    if (model == nullptr) return;
    const std::size_t wanted = input_.Below(model->pages.size());
    std::size_t left = model->pages.size();
    while (left > wanted && model->pages[left - 1] != State::kUsed) --left;
    if (left == model->pages.size()) return;
    model->record->warm.ClearRange(left, model->pages.size() - left);
    reservations_.Shrink(model->record, left);
    huge_pages_ -= model->pages.size() - left;
    model->pages.resize(left);
    reservations_.RemoveEmpty();
    walk_ = {};
    if (left == 0) models_.erase(models_.begin() + (model - models_.data()));
  }

  // Goes over all of them, and looks at each address.
  void Walk() {
    FUZZ_REQUIRE(reservations_.huge_page_count() == huge_pages_);
    std::size_t used = 0;
    for (const Model& model : models_) {
      for (std::size_t i = 0; i < model.pages.size(); ++i) {
        const bool is_used = model.pages[i] == State::kUsed;
        FUZZ_REQUIRE(reservations_.Serves((model.first_number + i) * kHugePageBytes + 77) == is_used);
        used += is_used ? 1 : 0;
      }
      FUZZ_REQUIRE(!reservations_.Serves((model.first_number + model.pages.size()) * kHugePageBytes));
    }
    std::size_t seen = 0;
    for (bool end = false; !end;) seen += reservations_.NextPacked(&walk_, &end) != nullptr ? 1 : 0;
    FUZZ_REQUIRE(seen == used);
  }

  tarn_test::Input input_;
  std::unique_ptr<std::uint64_t[]> block_;
  Metadata metadata_;
  Reservations reservations_;
  Reservations::Walk walk_;
  std::vector<Model> models_;
  std::size_t next_number_ = 64;
  std::size_t huge_pages_ = 0;
};

}  // namespace
}  // namespace tarn

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  tarn::Fuzzer(tarn_test::Input(data, size)).Run();
  return 0;
}
