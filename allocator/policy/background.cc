// SPDX-License-Identifier: Apache-2.0

#include "allocator/policy/background.h"

#include "allocator/os/process.h"

namespace tarn {

bool Background::MayHaveThreads() const {
  return setting_.load(std::memory_order_relaxed) == BackgroundSetting::kOn && !stopped() && !HasOneThread();
}

}  // namespace tarn
