// SPDX-License-Identifier: Apache-2.0
//
// tarn/profile.h: the heap profile of this process. For C and C++.
//
// The profile is always on. About one allocation in 512 KiB is sampled with its stack (TARN_PROFILE_RATE changes the
// mean distance). The probability depends on the size, and the weighted sums have no bias.
#ifndef TARN_PROFILE_H
#define TARN_PROFILE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

// Sets the mean distance of the samples in bytes, from now on: 0 takes no more samples, 1 samples every allocation, and
// more than 2^40 means 2^40. Samples that were taken stay, with the weight that they had. Any thread; not in a signal
// handler.
void tarn_set_profile_rate(size_t rate_bytes);

// The distance in force.
size_t tarn_profile_rate(void);

// Write the profile as it is now, in the format of pprof (profile.proto, not compressed): the four sample types of Go's
// heap profile, with addresses and mappings; `tarn heap` and pprof add the names. To a file that is created or
// replaced, readable by its owner alone, or to an open descriptor, which stays open. Return 0, or -1 with the reason in
// errno; a file that could not be written whole is removed. Nothing is allocated and no lock is taken, so any thread
// may call them at any time, also in a signal handler.
int tarn_write_heap_profile(const char* path);
int tarn_write_heap_profile_fd(int descriptor);

#ifdef __cplusplus
}
#endif

#endif
