# SPDX-License-Identifier: Apache-2.0
"""The work of the python trace: records to JSON and back, words out of it by regular expressions, an index of them."""

import json
import re

WORD = re.compile(r"[a-z]+-(\d+)")


def records(start, count):
    return [
        {"id": number, "name": f"item-{number * 7919 % 10007}", "tags": [f"tag-{number % k}" for k in (3, 7, 31)],
         "price": number * 1.25, "sub": {"left": None, "right": [number, str(number)]}}
        for number in range(start, start + count)
    ]


def main():
    index = {}
    for round_number in range(24):
        text = json.dumps(records(round_number * 700, 500), indent=1)
        for record in json.loads(text):
            index.setdefault(record["name"], []).append(record["tags"])
        for match in WORD.finditer(text):
            key = match.group(1)
            index[key] = index.get(key, 0) + 1 if not isinstance(index.get(key), list) else index[key]
        if round_number % 4 == 3:
            # A part of what has been kept goes, as an index does that is cleaned.
            for key in [key for key in index if len(key) % 3 == 0]:
                del index[key]
    print(len(index), sum(len(str(key)) for key in index))


if __name__ == "__main__":
    main()
