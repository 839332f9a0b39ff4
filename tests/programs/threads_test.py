#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A threaded C++ program (threaded_program.cc), whose output does not depend on its threads."""

import programs


def test(stage, program):
    for threads in ("2", "16", "64"):
        stage.compare([program, threads])
    stage.require_witnessed("programs_threaded")


if __name__ == "__main__":
    programs.main(test)
