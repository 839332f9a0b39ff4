// SPDX-License-Identifier: Apache-2.0
//
// Attributes that the compilers spell as extensions, under one set of names.
#pragma once

// The function is part of the library's interface: everything else is hidden.
#define TARN_EXPORT __attribute__((visibility("default")))
// The body belongs to the hit path of malloc or free and is merged into it.
#define TARN_ALWAYS_INLINE __attribute__((always_inline)) inline
// The function is a slow path: it stands apart from the hot code and is never merged into it.
#define TARN_COLD __attribute__((noinline, cold))
// The variable lies in initialised data though it is zero. The loader has written the last page of that in every
// process, so the variable costs no page fault of its own.
#define TARN_IN_TOUCHED_DATA __attribute__((section(".data")))
#define TARN_NOINLINE __attribute__((noinline))

// Clang's thread-safety analysis; gcc has none and reads nothing here.
#if defined(__clang__)
#define TARN_THREAD_ANNOTATION(x) __attribute__((x))
#else
#define TARN_THREAD_ANNOTATION(x)
#endif
#define TARN_CAPABILITY(x) TARN_THREAD_ANNOTATION(capability(x))
#define TARN_SCOPED_CAPABILITY TARN_THREAD_ANNOTATION(scoped_lockable)
#define TARN_GUARDED_BY(x) TARN_THREAD_ANNOTATION(guarded_by(x))
#define TARN_REQUIRES(...) TARN_THREAD_ANNOTATION(requires_capability(__VA_ARGS__))
#define TARN_ACQUIRE(...) TARN_THREAD_ANNOTATION(acquire_capability(__VA_ARGS__))
#define TARN_TRY_ACQUIRE(...) TARN_THREAD_ANNOTATION(try_acquire_capability(__VA_ARGS__))
#define TARN_RELEASE(...) TARN_THREAD_ANNOTATION(release_capability(__VA_ARGS__))
#define TARN_EXCLUDES(...) TARN_THREAD_ANNOTATION(locks_excluded(__VA_ARGS__))
#define TARN_NO_THREAD_SAFETY_ANALYSIS TARN_THREAD_ANNOTATION(no_thread_safety_analysis)
