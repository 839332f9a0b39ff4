// SPDX-License-Identifier: Apache-2.0

#include "allocator/heap/background.h"

#include "allocator/os/environment.h"
#include "allocator/os/process.h"
#include "allocator/os/rights.h"

namespace tarn {

bool Background::MayScavenge() const {
  return setting_.load(std::memory_order_relaxed) == BackgroundSetting::kOn && !stopped() && !HasOneThread();
}

bool Background::MayCare() const {
  return setting_.load(std::memory_order_relaxed) != BackgroundSetting::kOff && !stopped() && !HasOneThread();
}

bool Background::PrivilegesForbidCare() const {
  return setting_.load(std::memory_order_relaxed) == BackgroundSetting::kAuto &&
         (SecureExecution() || HasCapabilities());
}

}  // namespace tarn
