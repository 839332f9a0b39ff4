// SPDX-License-Identifier: Apache-2.0
//
// tarn/interner.h: each text once.
//
//   tarn::Interner names;
//   std::string_view a = names.Intern("host"), b = names.Intern(std::string("host"));   // a.data() == b.data()
//
// The texts lie in an arena and live until the interner's end, so that equal texts may be compared by address.
// Threads: one at a time.
#ifndef TARN_INTERNER_H
#define TARN_INTERNER_H

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include <tarn/arena.h>

namespace tarn {

class Interner {
 public:
  // Named interners appear in the statistics as arenas. Null: no name.
  explicit Interner(const char* name = nullptr) : arena_(ArenaOptions{name, 0, nullptr, 0, 0}) {}

  // Returns the same address for the same text. The copy ends with a zero byte that is not part of it. Throws
  // std::bad_alloc.
  std::string_view Intern(std::string_view text) {
    const std::size_t hash = std::hash<std::string_view>{}(text);
    if (slots_.empty()) slots_.resize(kFirstSlots);
    std::size_t index = Find(text, hash);
    if (slots_[index].text != nullptr) {
      ++hits_;
      return {slots_[index].text, slots_[index].bytes};
    }
    // At most three quarters full, so that searches end soon.
    if ((count_ + 1) * 4 > slots_.size() * 3) {
      Grow();
      index = Find(text, hash);
    }
    auto* copy = static_cast<char*>(arena_.Allocate(text.size() + 1, 1));
    if (!text.empty()) std::memcpy(copy, text.data(), text.size());
    copy[text.size()] = '\0';
    slots_[index] = {copy, text.size(), hash};
    ++count_;
    return {copy, text.size()};
  }

  std::size_t size() const { return count_; }
  // Calls that found the text there.
  std::size_t hits() const { return hits_; }
  std::size_t text_bytes() { return arena_.Stats().used_bytes; }

 private:
  static constexpr std::size_t kFirstSlots = 64;
  struct Slot {
    const char* text = nullptr;
    std::size_t bytes = 0;
    std::size_t hash = 0;
  };

  // The slot of the text, or the empty one where it belongs.
  std::size_t Find(std::string_view text, std::size_t hash) const {
    const std::size_t mask = slots_.size() - 1;
    for (std::size_t i = hash & mask;; i = (i + 1) & mask) {
      const Slot& slot = slots_[i];
      if (slot.text == nullptr) return i;
      if (slot.hash == hash && std::string_view(slot.text, slot.bytes) == text) return i;
    }
  }

  void Grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    for (const Slot& slot : old) {
      if (slot.text != nullptr) slots_[Find({slot.text, slot.bytes}, slot.hash)] = slot;
    }
  }

  Arena arena_;
  std::vector<Slot> slots_;
  std::size_t count_ = 0;
  std::size_t hits_ = 0;
};

}  // namespace tarn

#endif
