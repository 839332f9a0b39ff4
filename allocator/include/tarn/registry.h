// SPDX-License-Identifier: Apache-2.0
//
// tarn/registry.h: the arenas, pools and heaps of this process that have a name.
//
// Objects of one kind with the same name share a record: their figures are added up. The figures are brought up to date
// by slow paths (a new chunk, a refill, a reset, the object's end) and by the object's Stats function. So an arena's
// live bytes may lag by what its current chunk still holds. The record is plain memory and may be read at any time,
// from another process as well. Each figure is whole, two of them need not be of one moment.
//
// For C and C++.
#ifndef TARN_REGISTRY_H
#define TARN_REGISTRY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
  TARN_KIND_NONE = 0,
  TARN_KIND_ARENA = 1,
  TARN_KIND_CONCURRENT_ARENA = 2,
  TARN_KIND_FIXED_POOL = 3,
  TARN_KIND_OBJECT_POOL = 4,
  TARN_KIND_POOL = 5,
  TARN_KIND_HEAP = 6,
};

#define TARN_REGISTRY_NAME_BYTES 48
#define TARN_REGISTRY_RECORDS 256

typedef struct tarn_registry_record {
  // 1 while a record is being written for the first time, 2 when it can be read; never taken back.
  uint32_t state;
  uint32_t kind;
  char name[TARN_REGISTRY_NAME_BYTES];  // ends with a zero byte; longer names are cut
  int64_t instances;                    // that exist
  int64_t live_objects;
  int64_t live_bytes;
  int64_t capacity_bytes;  // the pages that they hold
  uint64_t allocations;    // since the start, these and all that follow
  uint64_t frees;
  uint64_t resets;
  uint64_t failures;  // allocations refused: the limit, or no memory
  uint64_t hits;      // of tarn::Pool: Get found an object in the CPU's own stack
  uint64_t misses;    // a new object was made
  uint64_t steals;    // found in the shared part, where other CPUs left it
  uint64_t drops;     // objects destroyed: too large, too many, or not used for two epochs
} tarn_registry_record;

// The array of TARN_REGISTRY_RECORDS records; those in use come first. The last one, when all are taken, stands for all
// further names and is called "(others)".
const tarn_registry_record* tarn_registry(void);

// The name of a record's kind.
static inline const char* tarn_kind_name(uint32_t kind) {
  switch (kind) {
    case TARN_KIND_ARENA:
      return "arena";
    case TARN_KIND_CONCURRENT_ARENA:
      return "concurrent arena";
    case TARN_KIND_FIXED_POOL:
      return "fixed pool";
    case TARN_KIND_OBJECT_POOL:
      return "object pool";
    case TARN_KIND_POOL:
      return "pool";
    case TARN_KIND_HEAP:
      return "heap";
    default:
      return "pools";
  }
}

#ifdef __cplusplus
}
#endif

#endif
