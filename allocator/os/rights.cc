// SPDX-License-Identifier: Apache-2.0

#include "allocator/os/rights.h"

#include <linux/capability.h>

#include <cstring>

#include "allocator/os/system_call.h"

namespace tarn {

namespace {

struct Capabilities {
  __user_cap_data_struct words[_LINUX_CAPABILITY_U32S_3] = {};
};

// Of the thread with this id; 0: the calling one.
bool Read(int thread_id, Capabilities* capabilities) {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, thread_id};
  return SystemCall(SYS_capget, &header, capabilities->words) == 0;
}

}  // namespace

bool SharesCapabilitiesWithFirstThread() {
  Capabilities own;
  Capabilities first;
  if (!Read(0, &own) || !Read(static_cast<int>(SystemCall(SYS_getpid)), &first)) return true;
  return std::memcmp(&own, &first, sizeof own) == 0;
}

}  // namespace tarn
