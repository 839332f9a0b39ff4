# SPDX-License-Identifier: Apache-2.0
"""The result document of a whole run: one tarn-bench/1 document, put together from one per workload.

Called by runner.py. What stays true: the file on disk is always a whole document, the newest one that
there was room for.
"""

import datetime
import json
import os

SCHEMA = "tarn-bench/1"
# What all documents of one run have in common is taken from the first one.
COMMON = ("schema", "tool_version", "machine", "build")


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")


class Document:
    def __init__(self, command_line, seed):
        self.json = {
            "schema": SCHEMA,
            "tool_version": None,
            "started": now(),
            "finished": None,
            "seed": seed,
            "command_line": command_line,
            "interrupted": False,
            "machine": {},
            "build": {},
            "notes": [],
            "allocators": [],
            "workloads": [],
        }

    def note(self, text):
        self.json["notes"].append(text)

    def add(self, other, workload):
        """Takes over the one workload of a document that `tarn compare` wrote."""
        if other.get("schema") != SCHEMA:
            raise ValueError(f"schema {other.get('schema')!r} in place of {SCHEMA!r}")
        for key in COMMON:
            if not self.json[key]:
                self.json[key] = other.get(key)
        known = {allocator["name"] for allocator in self.json["allocators"]}
        self.json["allocators"] += [a for a in other.get("allocators", []) if a["name"] not in known]
        for measured in other.get("workloads", []):
            measure, title = workload.result
            measured["result"] = {"measure": measure, "title": title}
            if workload.placement != "none":
                measured.setdefault("placement", {})["policy"] = workload.placement
            self.json["workloads"].append(measured)
        self.json["interrupted"] = self.json["interrupted"] or bool(other.get("interrupted"))

    def write(self, path):
        """OSError where it cannot be written; what was there before stays then."""
        self.json["finished"] = now()
        temporary = path + ".new"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                json.dump(self.json, file, separators=(",", ":"))
                file.write("\n")
            os.replace(temporary, path)
        except OSError:
            try:
                os.unlink(temporary)
            except OSError:
                pass
            raise
