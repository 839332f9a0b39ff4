#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""gcore on a small program: it writes all private memory in full, so what was never used must be left out."""

import os

import programs

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char* object;

int main(void) {
  for (int i = 0; i < 200; ++i) {
    object = malloc(10 + i * 7);
    strcpy(object, "object");
  }
  puts("ready");
  fflush(stdout);
  for (;;) pause();
}
"""

# More than glibc's.
MOST_BYTES = 2_000_000


def is_ready(stage):
    with open(stage.path("server.log"), "rb") as log:
        return b"ready" in log.read()


def core_bytes(stage, gcore, program, tarn):
    """The size of the program's core dump, and the dump."""
    path = stage.path("core.tarn" if tarn else "core.glibc")
    with stage.server([program], tarn=tarn) as process:
        programs.wait_until(lambda: is_ready(stage), "the program's start")
        done = stage.run([gcore, "-o", path, str(process.pid)], tarn=False, env={"DEBUGINFOD_URLS": ""}, check=False)
        if done.returncode != 0 or b"Saved corefile" not in done.stdout:
            raise programs.Skip(f"gcore cannot write here: {programs.short(done.stderr)}")
        path = f"{path}.{process.pid}"
        if tarn:
            stage.check_maps(process.pid)
    return os.path.getsize(path), path


def test(stage):
    gcore = programs.find_program("gcore")
    gdb = programs.find_program("gdb")
    compiler = programs.find_program("gcc", "cc")
    source = stage.write("small.c", PROGRAM)
    stage.run([compiler, "-g", "-O0", source, "-o", "small"])
    program = stage.path("small")
    glibc_bytes, _ = core_bytes(stage, gcore, program, tarn=False)
    tarn_bytes, core = core_bytes(stage, gcore, program, tarn=True)
    if tarn_bytes > glibc_bytes + MOST_BYTES:
        raise programs.Difference(f"a core dump of {tarn_bytes} bytes, {glibc_bytes} on glibc")
    # The objects are in it.
    command = [gdb, "-nx", "-batch", "-ex", "print object", program, core]
    done = stage.run(command, tarn=False, env={"DEBUGINFOD_URLS": ""})
    if b'"object"' not in done.stdout:
        raise programs.Difference(f"objects are missing in the core dump: {programs.short(done.stdout)}")


if __name__ == "__main__":
    programs.main(test)
