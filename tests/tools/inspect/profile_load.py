# SPDX-License-Identifier: Apache-2.0
"""A load for profile_live_test.py: holds 64 MiB in one function; another allocates and frees until the end."""


def hold():
    return [bytes(960) for _ in range(65536)]


def churn():
    return [str(i) * 10 for i in range(1000)]


held = hold()
print("ready", flush=True)
while True:
    churn()
