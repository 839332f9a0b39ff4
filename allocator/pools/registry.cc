// SPDX-License-Identifier: Apache-2.0

#include "allocator/pools/registry.h"

#include <cstring>
#include <string_view>

#include "allocator/base/attributes.h"
#include "allocator/observe/published.h"
#include "allocator/os/process.h"

namespace tarn {

namespace {

constexpr std::uint32_t kWriting = 1;
constexpr std::uint32_t kReady = 2;

// Writes the name, cut to what fits.
void SetName(char* to, const char* name) {
  std::size_t length = 0;
  while (length < TARN_REGISTRY_NAME_BYTES - 1 && name[length] != '\0') ++length;
  std::memcpy(to, name, length);
  to[length] = '\0';
}

bool IsReady(const tarn_registry_record& record) {
  // A writer is a few instructions long. If it never ends (the process forked in the middle of it), the record stays
  // out of use.
  for (int i = 0; i < 100; ++i) {
    if (__atomic_load_n(&record.state, __ATOMIC_ACQUIRE) == kReady) return true;
    SleepBriefly();
  }
  return false;
}

tarn_registry_record* FindOrMake(const char* name, std::uint32_t kind) {
  char wanted[TARN_REGISTRY_NAME_BYTES];
  SetName(wanted, name);
  for (int i = 0; i < TARN_REGISTRY_RECORDS; ++i) {
    tarn_registry_record& record = own_registry[i];
    const bool last = i == TARN_REGISTRY_RECORDS - 1;
    std::uint32_t expected = 0;
    if (__atomic_load_n(&record.state, __ATOMIC_ACQUIRE) == 0 &&
        __atomic_compare_exchange_n(&record.state, &expected, kWriting, false, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
      SetName(record.name, last ? "(others)" : wanted);
      record.kind = last ? std::uint32_t{TARN_KIND_NONE} : kind;
      __atomic_store_n(&record.state, kReady, __ATOMIC_RELEASE);
      return &record;
    }
    if (!IsReady(record)) continue;
    if (last || (record.kind == kind && std::string_view(record.name) == wanted)) return &record;
  }
  return nullptr;
}

}  // namespace

tarn_registry_record* JoinRegistry(const char* name, std::uint32_t kind) {
  if (name == nullptr || *name == '\0') return nullptr;
  tarn_registry_record* record = FindOrMake(name, kind);
  if (record != nullptr) CountSigned(&record->instances, 1);
  return record;
}

void LeaveRegistry(tarn_registry_record* record) {
  if (record != nullptr) CountSigned(&record->instances, -1);
}

extern "C" TARN_EXPORT const tarn_registry_record* tarn_registry(void) { return own_registry; }

}  // namespace tarn
