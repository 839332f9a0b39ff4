// SPDX-License-Identifier: Apache-2.0
//
// A program without a loader, for static_start_test: allocates, and says whether a sample of it was taken. C, so that
// hardly anything runs beside libc's own start. It never forks, so that libc has no handlers of forks, but may register
// some.
#include <pthread.h>
#include <stdlib.h>
#include <tarn/memstats.h>

int main(int argc, char** argv) {
  (void)argv;
  void* const object = malloc(1000);
  if (object == NULL) return 1;
  // With an argument every allocation has to be sampled.
  if (argc > 1) {
    tarn_memstats_t stats;
    tarn_memstats(&stats, sizeof stats);
    if (stats.requested_estimate_bytes < 1000) return 2;
  }
  free(object);
  if (pthread_atfork(NULL, NULL, NULL) != 0) return 3;
  return 0;
}
