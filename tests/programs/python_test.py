#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Python's own tests, with every Python object from malloc (PYTHONMALLOC=malloc).

The second argument names a group of modules of Python's test package, or `script`: a program of our
own (python_work.py), whose output is compared. Debian's libpython3.11-testsuite has the package; a
group is skipped where it is missing. A module that fails on glibc, too, is reported and does not
count. The two modes share all but the owner of a slab, so every module runs in one of them; those about
threads and processes all run in the mode that nearly every kernel has, and every third in the other, too.
With TARN_TEST_ALL=on all run in both, which takes ten minutes more.
"""

import os
import re
import sys

import programs

GROUPS = {
    "core": """
        test_array test_bisect test_buffer test_class test_collections test_complex test_copy
        test_dataclasses test_decimal test_deque test_descr test_dict test_enum test_exceptions
        test_float test_fractions test_functools test_gc test_generators test_heapq test_int
        test_iter test_itertools test_list test_long test_marshal test_memoryview test_ordered_dict
        test_pickle test_random test_range test_set test_slice test_sort test_struct test_tuple
        test_weakref test_weakset""",
    "text": """
        test_base64 test_binascii test_bufio test_bytes test_bz2 test_codecs
        test_configparser test_csv test_ctypes test_datetime test_difflib test_fileio test_format
        test_fstring test_gzip test_hashlib test_html test_ipaddress test_json test_memoryio
        test_pyexpat test_re test_shelve test_sqlite3 test_string test_tarfile test_textwrap
        test_tokenize test_unicode test_unicodedata test_xml_etree test_xml_etree_c
        test_zlib""",
    "threads": """
        test_atexit test_faulthandler test_interpreters test_queue test_thread test_threadedtempfile
        test_threading test_threading_local test_threadsignals test_tracemalloc""",
    "system": """
        test_fork1 test_glob test_mmap test_os test_posix test_shutil test_subprocess test_tempfile
        test_wait3 test_wait4""",
}

# Names that some interpreter of the machine may have.
INTERPRETERS = ("/usr/bin/python3", "python3", sys.executable)

FIND_MODULES = """
import importlib.util, sys
print(' '.join(n for n in sys.argv[1:] if importlib.util.find_spec('test.' + n)))
"""


def find_modules(stage, names):
    """The first interpreter that has most of the modules, and which of them it has."""
    for name in INTERPRETERS:
        try:
            interpreter = programs.find_program(name)
        except programs.Skip:
            continue
        # A name may be a script that chooses an interpreter; ask for the real one.
        asked = stage.run([interpreter, "-c", "import sys; print(sys.executable)"], tarn=False)
        interpreter = asked.stdout.decode().strip()
        found = stage.run([interpreter, "-c", FIND_MODULES, *names], tarn=False, check=False)
        modules = found.stdout.decode().split()
        # Debian leaves a few modules out.
        if len(modules) >= len(names) * 3 // 4:
            return interpreter, modules
    raise programs.Skip("Python's test package is not installed (libpython3.11-testsuite)")


def run_suite(stage, interpreter, modules, tarn):
    # A module that hangs says where. A busy machine takes many times the minute of a quiet one.
    command = [interpreter, "-m", "test", "--timeout", "600", *modules]
    return stage.run(command, tarn=tarn, check=False, env={"PYTHONMALLOC": "malloc"}, timeout=1200)


def failed_modules(output):
    """The modules in the list after `2 tests failed:`."""
    text = output.decode(errors="replace")
    failed = re.search(r"tests? failed:\n((?:    .*\n)+)", text)
    return failed.group(1).split() if failed else []


def run_group(stage, group):
    interpreter, modules = find_modules(stage, GROUPS[group].split())
    if os.environ.get("TARN_TEST_ALL") != "on":
        is_thread_mode = os.environ.get("TARN_MODE") == "thread"
        if group in ("core", "text"):
            modules = modules[0 if is_thread_mode else 1 :: 2]
        elif is_thread_mode:
            modules = modules[::3]
    print(f"{group}: {len(modules)} modules with {interpreter}")
    done = run_suite(stage, interpreter, modules, tarn=True)
    if done.returncode != 0:
        failed = failed_modules(done.stdout)
        if not failed:
            raise programs.Failure(
                f"exit {done.returncode}\n{programs.short(done.stdout)}\n"
                f"{programs.short(done.stderr, 60)}"
            )
        again = run_suite(stage, interpreter, failed, tarn=False)
        excused = failed_modules(again.stdout)
        ours = [module for module in failed if module not in excused]
        print(f"fail on glibc, too, and do not count: {' '.join(excused) or 'none'}")
        # Some modules measure times, and fail now and then on a busy machine: a failure counts that comes again.
        for _ in range(2):
            if ours:
                once_more = run_suite(stage, interpreter, ours, tarn=True)
                failed = failed_modules(once_more.stdout)
                if once_more.returncode != 0 and not failed:
                    raise programs.Difference(f"exit {once_more.returncode}\n{programs.short(once_more.stderr, 60)}")
                print(f"fail on tarn, and not again: {' '.join(m for m in ours if m not in failed) or 'none'}")
                ours = [module for module in ours if module in failed]
        if ours:
            raise programs.Difference(
                f"these modules fail on tarn only: {' '.join(ours)}\n"
                f"{programs.short(done.stdout, 40)}\n{programs.short(done.stderr, 60)}"
            )
    stage.require_witnessed(os.path.basename(os.path.realpath(interpreter)))


def run_script(stage):
    interpreter = programs.find_program("/usr/bin/python3", "python3")
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "python_work.py")
    for allocator in ("malloc", "pymalloc"):
        stage.compare([interpreter, script], env={"PYTHONMALLOC": allocator, "PYTHONHASHSEED": "1"})


def test(stage, group):
    if group == "script":
        run_script(stage)
    else:
        run_group(stage, group)


if __name__ == "__main__":
    programs.main(test)
