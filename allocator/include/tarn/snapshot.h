// SPDX-License-Identifier: Apache-2.0
//
// tarn/snapshot.h: what tarn publishes of its heap for other processes to read.
//
// The library keeps one block, `tarn_snapshot`. It is a dynamic symbol of libtarn.so, and an ordinary symbol of a
// static program. It is 64-byte aligned in a writable segment and recognised by its magic. It says where the live
// counters of the heap lie and how they are laid out. A reader copies them out of the process, with process_vm_readv(2)
// from outside or with memcpy from inside. Nothing runs in the process that is read, and nothing waits. A few words are
// there for others to write: tarn_snapshot_release.request, and the first three of tarn_snapshot_limit_request.
//
// Consistency. Every counter is exact as of the moment at which it is read, and the moments differ by the time that the
// reading takes. At rest everything fits together. While threads work, sums over counters that move may be off by what
// moved during the read; the page heap's counters are read as one, by a sequence number. Counters only of this kind: 64
// bits, aligned, written by one store each.
//
// Addresses (fields *_address) are those of the process that is looked into; 0 means that there is nothing. Bytes are
// bytes. A reader must refuse a block whose magic or version it does not know: layouts change with the version.
#ifndef TARN_SNAPSHOT_H
#define TARN_SNAPSHOT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TARN_SNAPSHOT_MAGIC "tarn.snapshot.1"
#define TARN_SNAPSHOT_VERSION 1u

// Kinds of metadata, the allocator's own memory.
enum {
  TARN_METADATA_SPANS = 0,     // span records
  TARN_METADATA_PAGE_MAP = 1,  // from addresses to spans
  TARN_METADATA_CACHES = 2,    // slabs of the CPU caches, transfer caches
  TARN_METADATA_PAGES = 3,     // records of huge pages and reservations
  TARN_METADATA_PROFILE = 4,   // samples and their stacks
  TARN_METADATA_OTHER = 5,
  TARN_METADATA_KINDS = 6
};

// The page heap. Read `sequence`, the rest, `sequence` again: the same even number twice means one moment.
//   reserved = committed + uncommitted (not listed)
//   committed = in_use + free + metadata_block
// mapped lies beside the reservations.
typedef struct tarn_snapshot_pages {
  uint64_t sequence;
  uint64_t reserved_bytes;
  uint64_t committed_bytes;
  uint64_t in_use_bytes;          // in spans
  uint64_t large_bytes;           // of these, in spans of one large object
  uint64_t mapped_bytes;          // large objects with a mapping of their own
  uint64_t free_bytes;            // in no span
  uint64_t free_zero_bytes;       // of these, released to the kernel or never touched
  uint64_t metadata_block_bytes;  // given to the metadata
  uint64_t metadata_bytes[8];     // of these, handed out, by kind
  uint64_t span_record_bytes;     // records of spans that exist
  uint64_t large_objects;
  uint64_t large_allocations;
  uint64_t large_allocated_bytes;  // cumulative
  uint64_t large_freed_bytes;      // cumulative
  uint64_t huge_pages;             // committed, metadata aside
  uint64_t whole_free_huge_pages;
  uint64_t released_bytes;     // cumulative
  uint64_t peak_in_use_bytes;  // of in_use + mapped
  uint64_t backed_huge_pages;  // of huge_pages, those that tarn made the kernel back with a THP
  uint64_t asked_huge_pages;   // and those advised to be backed so, on first touch
  uint64_t reserved[6];
} tarn_snapshot_pages;

// One size class.
typedef struct tarn_snapshot_size_class {
  uint32_t size_bytes;
  uint32_t objects_per_span;
  uint32_t span_bytes;
  uint32_t batch_objects;
} tarn_snapshot_size_class;

// A slab's header and counters of one class; see the formulas. Of the word the low 16 bits are the top, those above
// count pops.
//   cached objects = top - begin; none where begin is 0 or above top, while the slab is made or moves the class
//   allocations    = pops - flushed + direct_allocations
//   frees          = cached + pops - refilled + direct_frees
typedef struct tarn_snapshot_slab_header {
  uint64_t word;
  uint64_t sample_due;
  uint16_t begin;
  uint16_t end;
  uint16_t limit;
  uint16_t reserved[5];
} tarn_snapshot_slab_header;

typedef struct tarn_snapshot_slab_counters {
  uint64_t refilled;
  uint64_t flushed;
  uint64_t direct_allocations;
  uint64_t direct_frees;
  uint32_t refills;
  uint32_t flushes;
  uint8_t reserved[8];
} tarn_snapshot_slab_counters;

// One (stack, size) of the heap profile. Objects are weighted: each sample stands for 1/p objects, in units of
// 1/TARN_SAMPLE_WEIGHT_ONE. Bytes are objects times size. `frames` addresses follow, innermost first, each a call site
// (the return address minus 1).
#define TARN_SAMPLE_WEIGHT_ONE 65536u
typedef struct tarn_snapshot_bucket {
  uint64_t hash_next_address;  // of the library's hash table
  uint64_t hash;
  uint64_t size_bytes;        // of the object: its size class's, or its pages'
  uint64_t allocated_weight;  // cumulative
  uint64_t freed_weight;      // cumulative; in use is the difference
  uint64_t allocated_samples;
  uint64_t freed_samples;
  uint64_t requested_weighted_bytes;  // in use: bytes that the program asked for, weighted (not in 1/65536)
  uint32_t frames;
  uint32_t reserved;
} tarn_snapshot_bucket;

// Buckets lie one behind the other, each followed by its frames, in blocks that form a list and only ever grow.
typedef struct tarn_snapshot_bucket_block {
  uint64_t next_address;
  uint64_t used_bytes;  // of the buckets behind this header
} tarn_snapshot_bucket_block;

typedef struct tarn_snapshot_profile {
  uint64_t rate_bytes;  // the mean distance of samples that is asked for; 0: off
  uint64_t first_block_address;
  uint64_t buckets;
  uint64_t live_samples;
  uint64_t samples;           // cumulative
  uint64_t dropped_samples;   // for want of memory or room in the table
  uint64_t truncated_stacks;  // deeper than is kept
  uint64_t rate_shift;        // at present sampled 2^shift times less, because samples came too fast
  uint64_t reserved[8];
} tarn_snapshot_profile;

// The limits. The counters are those of tarn_limit_stats (tarn/limits.h).
typedef struct tarn_snapshot_limits {
  // In force, as complements: 0 means none.
  uint64_t not_soft_bytes;
  uint64_t not_hard_bytes;
  uint64_t checks;
  uint64_t exceeded;
  uint64_t peak_excess_bytes;
  uint64_t released_bytes;
  uint64_t release_ns;
  uint64_t skipped;
  uint64_t hard_failures;
} tarn_snapshot_limits;

// The scavenger's work, in any thread.
typedef struct tarn_snapshot_scavenger {
  uint64_t cycles;
  uint64_t starts;
  uint64_t cpu_ns;
  uint64_t released_bytes;
  uint64_t drained_bytes;
} tarn_snapshot_scavenger;

// A request to give all free memory back to the kernel, as tarn_release_memory(SIZE_MAX) does. A requester from outside
//   1. reads the structure, and takes answered + 1 as the number of its request;
//   2. writes that to `request` (process_vm_writev(2)), unless there is as high a number already;
//   3. reads the structure again and again. When `answered` has reached the number, answered_bytes is the result.
//      `begun` reaches it before, when a thread has started. When both `request` and `answered` are below the number,
//      another requester or a fork has overwritten it: 2. again.
// Numbers are compared by the sign of their difference. The process answers when it comes to it: at the scavenger's
// next look, at tarn_background_tick() or at the end of a slow path. It ignores a number that is answered already, and
// one answer is for all that have asked for this number or a lower one. A request that nobody waits for any more
// stands. Before each write make sure that the block is still the same (start_time_ns): the process may run another
// program.
typedef struct tarn_snapshot_release {
  uint64_t request;
  uint64_t begun;
  uint64_t answered;        // written after answered_bytes
  uint64_t answered_bytes;  // given back for the last answer
} tarn_snapshot_release;

// Asking for another soft limit, as tarn_set_memory_limit does. It works like the above, with a value beside the
// number, so that three words have to arrive together: a write from outside is not one store, and two may write at
// once. `check` says whether they did. A requester
//   1. reads the structure, and takes answered + 1 as the number of its request;
//   2. writes number, bytes and check, by one call;
//   3. reads again and again. When `answered` has reached the number and answered_request_bytes is the requested value,
//      it is done, and answered_bytes is the limit in force. When `answered` has reached it with another value, a
//      request of the same time was taken instead. When the words are not those that were written, another requester
//      or a fork has overwritten them: 2. again.
// The process takes a request when it comes to it, at the same places as the above, and only while the check is right:
// words that do not belong together are left until one of the writers writes again. What was set stays until it is set
// anew. Each half of the check depends on every bit of both words. So no mixture of the halves of two requests passes
// by its structure: the sum is mixed as splitmix64 does it (Steele, Lea, Flood, OOPSLA 2014). Words that are all zero
// are not right.
static inline uint64_t tarn_snapshot_limit_check(uint64_t request, uint64_t request_bytes) {
  uint64_t mixed = request * 0x9E3779B97F4A7C15u + request_bytes * 0xD1B54A32D192ED03u;
  mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EBu;
  return ~(mixed ^ (mixed >> 31));
}
#define TARN_SNAPSHOT_LIMIT_CHECK(request, request_bytes) tarn_snapshot_limit_check((request), (request_bytes))
typedef struct tarn_snapshot_limit_request {
  uint64_t request;
  uint64_t request_bytes;  // the limit; UINT64_MAX: none; 0: nine tenths of the cgroup's limit
  uint64_t check;
  uint64_t answered;                // written last
  uint64_t answered_request_bytes;  // of the request that was answered last
  uint64_t answered_bytes;          // in force since then; UINT64_MAX: none
} tarn_snapshot_limit_request;

// How long slow paths stood still in system calls for memory and in waits for locks: from the first of them to the end
// of the slow path. by_time[0] counts those shorter than a microsecond, by_time[i] those of 2^(i-1) to 2^i
// microseconds, the last one all that were longer. All are since the process's start.
#define TARN_STALL_TIMES 24
typedef struct tarn_snapshot_stalls {
  uint64_t count;
  uint64_t total_ns;
  uint64_t longest_ns;
  uint64_t by_time[TARN_STALL_TIMES];
} tarn_snapshot_stalls;

// Guarded objects: samples that have pages of their own between inaccessible ones. They lie beside the page heap and
// the size classes.
typedef struct tarn_snapshot_guards {
  uint64_t places;            // objects that there is room for; 0 until the first one is guarded
  uint64_t live_objects;      // with the program
  uint64_t live_bytes;        // of their pages
  uint64_t held_objects;      // freed, and inaccessible
  uint64_t allocations;       // cumulative
  uint64_t allocated_bytes;   // cumulative, of their size classes
  uint64_t refused;           // not guarded, since the kernel refused
  uint64_t reports;           // of misuse
  uint64_t live_class_bytes;  // with the program, of their size classes
} tarn_snapshot_guards;

// A setting in force. Texts end with a zero byte.
enum { TARN_SOURCE_DEFAULT = 0, TARN_SOURCE_PRESET = 1, TARN_SOURCE_ENVIRONMENT = 2, TARN_SOURCE_API = 3 };
typedef struct tarn_snapshot_option {
  char name[32];
  char value[48];
  char default_value[44];
  uint32_t source;
} tarn_snapshot_option;

enum { TARN_CACHES_PER_CPU = 1, TARN_CACHES_PER_THREAD = 2 };
enum { TARN_INDEX_MM_CID = 1, TARN_INDEX_CPU_ID = 2, TARN_INDEX_THREAD = 3 };

typedef struct tarn_snapshot_block {
  char magic[16];
  uint32_t version;
  uint32_t bytes;  // of this structure
  char library_version[16];
  uint64_t started;        // 0 before the first allocation; written last
  uint64_t start_time_ns;  // CLOCK_REALTIME
  uint32_t cache_mode;
  uint32_t cache_index;
  uint32_t size_class_count;  // with class 0, which is empty
  uint32_t page_bytes;

  uint64_t size_classes_address;  // tarn_snapshot_size_class[size_class_count]

  // Slabs: at index i, the address of the slab is the uint64 at slab_entries_address + i * slab_entry_stride. 0 where
  // there is none; with caches per thread the first 0 is the end. Headers and counters are arrays, one entry per class.
  uint64_t slab_entries_address;
  uint32_t slab_entry_stride;
  uint32_t slab_entry_count;
  uint32_t slab_headers_offset;
  uint32_t slab_counters_offset;
  uint64_t cache_budget_bytes;

  // Calls that bypassed all slabs: per class two uint64, allocations and frees.
  uint64_t direct_counters_address;

  // Central free lists, of ordinary and of sampled objects: per class one structure of `stride` bytes that holds
  // uint64s at these offsets.
  uint64_t transfer_caches_address;
  uint32_t transfer_cache_stride;
  uint32_t transfer_objects_offset;  // objects in the transfer cache
  uint32_t transfer_spans_offset;    // spans of the class
  uint32_t transfer_live_offset;     // objects out of their spans: live or cached
  uint64_t sampled_lists_address;
  uint32_t sampled_list_stride;
  uint32_t sampled_spans_offset;
  uint32_t sampled_live_offset;
  uint32_t option_count;

  uint64_t pages_address;    // tarn_snapshot_pages
  uint64_t profile_address;  // tarn_snapshot_profile
  uint64_t options_address;  // tarn_snapshot_option[option_count]

  // Named arenas, pools and heaps: tarn_registry_record[registry_count] (tarn/registry.h), those in use first.
  uint64_t registry_address;
  uint32_t registry_count;
  uint32_t registry_record_bytes;

  uint64_t limits_address;         // tarn_snapshot_limits
  uint64_t scavenger_address;      // tarn_snapshot_scavenger
  uint64_t stalls_address;         // tarn_snapshot_stalls
  uint64_t release_address;        // tarn_snapshot_release; 0: this version cannot be asked
  uint64_t limit_request_address;  // tarn_snapshot_limit_request; 0: this version cannot be asked
  uint64_t guards_address;         // tarn_snapshot_guards; 0: this version has none
  uint64_t reserved[8];
} tarn_snapshot_block;

extern const tarn_snapshot_block tarn_snapshot;

#ifdef __cplusplus
}
#endif

#endif
