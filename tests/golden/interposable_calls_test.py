#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The functions that the built libraries take from libc, against the list of those that they may.

A program may define any of libc's functions itself, and a sanitizer intercepts many of them. So the
allocator asks the kernel by its own system calls (allocator/os/system_call.h says why), and takes from
libc only what is listed here. A new name in this list needs a reason.
"""

import os
import subprocess
import sys
import tempfile
import unittest

ALLOWED = {
    # Registrations with libc: of fork handlers, exit handlers and thread-local destructors.
    "__register_atfork", "pthread_atfork", "__cxa_atexit", "atexit", "__cxa_finalize", "__cxa_thread_atexit_impl",
    # Says if fork gives up the lock of its handlers (entry/register_atfork.cc).
    "gnu_get_libc_version",
    # libc's own function behind the exported clone (entry/vfork_x86_64.cc).
    "__clone",
    # Threads that libc knows.
    "pthread_create", "pthread_join", "pthread_detach", "pthread_self",
    # Handlers of signals, which libraries that chain handlers have to see.
    "sigaction",
    # libc's own function behind the exported sigaction (os/memory_fault.cc).
    "__sigaction",
    # The end of the process after a misuse.
    "abort",
    # malloc_info writes to the caller's stream.
    "fwrite",
    # Facts that libc has about the process, without a system call.
    "getauxval", "environ", "__environ", "__errno_location", "__libc_stack_end", "__libc_single_threaded",
    "__rseq_offset", "__rseq_size", "_dl_find_object",
    # stdio's lock, taken around a fork.
    "_IO_list_lock", "_IO_list_unlock", "_IO_list_resetlock",
    # Functions that compilers call by themselves. Interceptors of these work before their sanitizer is ready; those of
    # strcmp and strnlen do not.
    "memcpy", "memmove", "memset", "memcmp", "memchr", "strlen", "bcmp",
    # Of libgcc, the start files and the linker: part of each link.
    "__udivti3", "__umodti3", "__popcountdi2", "__dso_handle", "_GLOBAL_OFFSET_TABLE_", "_DYNAMIC",
    # Weak: the C++ library where the program has one, start files, AddressSanitizer where the program has it.
    "_ZSt15get_new_handlerv", "_ZSt17__throw_bad_allocv", "__cxa_begin_catch", "__cxa_end_catch",
    "_Unwind_Resume", "_ZSt9terminatev", "__gxx_personality_v0", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__gmon_start__",
    "__asan_poison_memory_region", "__asan_unpoison_memory_region",
    # Weak, too: a sanitizer's malloc.
    "__interceptor_malloc", "__interceptor_calloc", "__interceptor_realloc", "__interceptor_posix_memalign",
    "__interceptor_free", "__interceptor_malloc_usable_size",
}  # fmt: skip


def undefined(path, *options):
    """The names that the library leaves undefined, those aside that another member of it defines."""
    output = subprocess.run(["nm", *options, path], capture_output=True, text=True, check=True).stdout
    wanted, defined = set(), set()
    for line in output.splitlines():
        fields = line.split()
        if len(fields) < 2:
            continue
        name = fields[-1].split("@")[0]
        (wanted if fields[-2] in "Uwv" else defined).add(name)
    return wanted - defined


class InterposableCallsTest(unittest.TestCase):
    def check(self, library, *options):
        path = os.path.join(os.path.dirname(os.environ["TARN_LIB"]), library)
        if not os.path.exists(path):
            self.skipTest(f"{library} is not built")
        wanted = undefined(path, *options)
        self.assertIn("abort", wanted)
        self.assertEqual(sorted(wanted - ALLOWED), [])

    def test_shared_library(self):
        self.check("libtarn.so", "-D")

    def test_static_library(self):
        self.check("libtarn.a")

    def test_a_call_is_found(self):
        with tempfile.TemporaryDirectory() as directory:
            source = os.path.join(directory, "call.c")
            with open(source, "w", encoding="utf-8") as file:
                file.write("int madvise(void*, unsigned long, int);\nint Call(void) { return madvise(0, 0, 0); }\n")
            subprocess.run(["gcc", "-c", "-fPIC", source, "-o", source + ".o"], check=True)
            self.assertEqual(undefined(source + ".o") - ALLOWED, {"madvise"})


if __name__ == "__main__":
    sys.exit(unittest.main())
