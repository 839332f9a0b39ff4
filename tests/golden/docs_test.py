#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Holds the docs to the build: the numbers that they name, the places of the walk, and the links between pages.

Usage: docs_test.py BUILD_FACTS     (TARN_LIB: the path of libtarn.so)
"""

import os
import re
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
FACTS = {}


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def text(path):
    """A page as one line, so that a sentence may be broken anywhere."""
    return " ".join(read(path).split())


def pages():
    for directory, subdirectories, files in os.walk(ROOT):
        subdirectories[:] = [name for name in subdirectories if not name.startswith((".", "build"))]
        yield from (os.path.relpath(os.path.join(directory, name), ROOT) for name in files if name.endswith(".md"))


def anchors(page):
    """The links to the headings of a page, as GitHub makes them."""
    for heading in re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


class Numbers(unittest.TestCase):
    def says(self, page, pattern, *values):
        match = re.search(pattern, text(page))
        self.assertIsNotNone(match, "%s says nothing like: %s" % (page, pattern))
        self.assertEqual([int(group) for group in match.groups()], list(values), "%s: %s" % (page, match[0]))

    def test_layouts(self):
        kib = -(-FACTS["slab_bytes"] // 1024)
        self.says("docs/design.md", r"at most (\d+) KiB of addresses", kib)
        self.says("docs/design.md", r"SlabHeader, one per class \| (\d+) bytes each", FACTS["slab_header_bytes"])
        self.says("docs/design.md", r"a record of (\d+) bytes and its bits", FACTS["span_bytes"])
        self.says("docs/design.md", r"\*\*(\d+) size classes\*\*", FACTS["size_classes"])
        self.says("size_classes/README.md", r"one of (\d+) sizes", FACTS["size_classes"] - 1)
        self.says("size_classes/README.md", r"That makes (\d+) classes", FACTS["size_classes"])
        self.says("docs/design.md", r"ours, (\d+) KiB", FACTS["page_kib"])

    def test_static_tls(self):
        # PT_TLS of the shared library; its last but two columns are the sizes in the file and in memory.
        listing = subprocess.run(["readelf", "-lW", os.environ["TARN_LIB"]], capture_output=True, text=True, check=True)
        size = int(re.search(r"^\s*TLS(?:\s+0x\w+){4}\s+(0x\w+)", listing.stdout, re.MULTILINE)[1], 16)
        self.says("docs/design.md", r"(\d+) bytes of static TLS", size)
        self.says("docs/fork-and-signals.md", r"(\d+) bytes of static TLS", size)

    def test_instructions_of_the_hits(self):
        golden = dict(re.findall(r"^(\w+): (\d+) instructions", read("tests/golden/fast_path_x86_64.txt"), re.MULTILINE))
        counts = [int(golden[name]) for name in ("malloc", "free", "_Znwm", "_ZdlPvm")]
        self.says("docs/design.md",
                  r"hits of malloc \((\d+)\), free \((\d+)\), operator new \((\d+)\) and sized delete \((\d+)\)", *counts)
        self.says("allocator/README.md", r"A malloc ends here, after (\d+) instructions", counts[0])
        self.says("allocator/README.md", r"A free ends here, after (\d+) instructions", counts[1])
        self.says("docs/design.md", r"branch, is in the (\d+) instructions", counts[0])
        self.says("docs/design.md", r"The hit takes (\d+) instructions", counts[3])


class Places(unittest.TestCase):
    def test_each_step_of_the_walk_is_where_it_says(self):
        # | 3 | `cpu_cache/slab_ops_x86_64.h` | `SlabPop`, `SlabTryPop` | ...
        # | 6 | `cpu_cache/cpu_cache.cc`, `capacity.cc` | `AllocateSlow`, `Grow` | ...
        # The second file lies in the directory of the first.
        steps = re.findall(r"^\| \d+ \| (`[^|]*`) \| ([^|]*) \|", read("allocator/README.md"), re.MULTILINE)
        self.assertGreater(len(steps), 30)
        for files, functions in steps:
            code = ""
            directory = ""
            for path in re.findall(r"`([^`]+)`", files):
                if "/" not in path:
                    path = os.path.join(directory, path)
                directory = os.path.dirname(path)
                code += read(os.path.join("allocator", path))
            for function in re.findall(r"`([^`]+)`", functions):
                with self.subTest(files=files, function=function):
                    self.assertRegex(code, r"\b%s\(" % re.escape(function))

    def test_paths_of_the_walk_exist(self):
        for path in re.findall(r"`(\w+/[\w./]+\.(?:h|cc))`", read("allocator/README.md")):
            self.assertTrue(os.path.isfile(os.path.join(ROOT, "allocator", path)), path)

    def test_links_lead_somewhere(self):
        for page in pages():
            prose = re.sub(r"^    .*$", "", read(page), flags=re.MULTILINE)
            for target in re.findall(r"\]\(([^)\s]+)\)", prose):
                if target.startswith(("http:", "https:")):
                    continue
                path, _, anchor = target.partition("#")
                path = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
                with self.subTest(page=page, target=target):
                    self.assertTrue(os.path.exists(os.path.join(ROOT, path)))
                    if anchor:
                        self.assertIn(anchor, list(anchors(read(path))))


if __name__ == "__main__":
    for line in subprocess.run([sys.argv[1]], capture_output=True, text=True, check=True).stdout.splitlines():
        FACTS[line.split()[0]] = int(line.split()[1])
    unittest.main(argv=sys.argv[:1])
