// SPDX-License-Identifier: Apache-2.0
//
// Sleeping on a word of four bytes until another thread changes it (futex(2)).
//
// For threads of the program and for the scavenger's; the waker need not know whether anybody sleeps.
#pragma once

#include <atomic>
#include <cstdint>

namespace tarn {

inline constexpr std::uint32_t kForever = UINT32_MAX;

// Sleeps while the word has this value, at most `milliseconds`; may return earlier. May change errno.
void WaitOnWord(std::atomic<std::uint32_t>& word, std::uint32_t value, std::uint32_t milliseconds);

// Wakes all that sleep on the word. Takes no lock; may change errno.
void WakeWaiters(std::atomic<std::uint32_t>& word);

}  // namespace tarn
