// SPDX-License-Identifier: Apache-2.0
//
// tarn/malloc.h: the parts of tarn's malloc that the C library's headers do not declare.
//
// Everything else is where it always was: <stdlib.h>, <malloc.h>, <new>. A program needs this header only to call the
// functions below, and TARN_VERSION to know what it was compiled against.
//
// For C and C++. All functions may be called from any thread, and keep errno.
#ifndef TARN_MALLOC_H
#define TARN_MALLOC_H

#include <stddef.h>

#define TARN_VERSION_MAJOR 0
#define TARN_VERSION_MINOR 1
#define TARN_VERSION_PATCH 0

#ifdef __cplusplus
extern "C" {
#endif

// C23 7.24.3.4. Frees an object that malloc, calloc or realloc returned; `size` is the number of bytes that was asked
// for (count times size for calloc). A null pointer is ignored, whatever the size. A size that the object cannot hold
// ends the process with a line on stderr.
void free_sized(void* object, size_t size);

// C23 7.24.3.5. The same for an object of aligned_alloc, with the alignment and the size in bytes that were asked for.
void free_aligned_sized(void* object, size_t alignment, size_t size);

#ifdef __cplusplus
}
#endif

#endif
