# SPDX-License-Identifier: Apache-2.0
"""System calls that fail, for tests of what the tool says then."""

import ctypes
import os
import socket
import struct
import subprocess


def refuse_system_call(number, error):
    """For this thread and what it executes (seccomp(2)); needs no rights."""
    libc = ctypes.CDLL(None, use_errno=True)
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (0x06, 0, 0, 0x00050000 | error), (0x06, 0, 0, 0x7FFF0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    program = struct.pack("@HP", len(steps), ctypes.addressof(code))
    if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, program, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "no seccomp here")


def without_memory_file(pid, directory, readable=False):
    """The start of a command that cannot open /proc/PID/mem, or with `readable` only for reading.

    None where there are no namespaces.
    """
    memory = "/proc/%d/mem" % pid
    if readable:
        mount = "mount --bind %s %s && mount -o remount,bind,ro %s" % (memory, memory, memory)
    else:
        # A socket in the file system cannot be opened.
        place = os.path.join(directory, "socket")
        if not os.path.exists(place):
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(place)
        mount = "mount --bind %s %s" % (place, memory)
    command = ["unshare", "--mount"]
    if os.geteuid() != 0:
        command += ["--user", "--map-root-user"]
    command += ["sh", "-c", mount + ' && exec "$@"', "sh"]
    return command if subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0 else None
