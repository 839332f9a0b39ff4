#!/usr/bin/env python3
"""firefox, headless: the screenshot of a page with scripts, as on glibc.

firefox has a malloc of its own in the executable, and replaces some of the operators. tarn's other forms have to go
by those. So no process of it is seen to have its malloc from tarn.
"""

import os

import programs

PAGE = """<!doctype html><meta charset=utf-8><title>page</title>
<style>body { background: #abc; font: 16px monospace } td { border: 1px solid #654; padding: 2px }</style>
<h1>Words</h1><table id=t></table>
<script>
  const words = [];
  let seed = 1;
  for (let i = 0; i < 20000; ++i) {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    words.push(seed.toString(36).repeat(1 + seed % 5));
  }
  const count = new Map();
  for (const word of words) count.set(word.length, (count.get(word.length) || 0) + 1);
  const rows = [...count].sort((a, b) => a[0] - b[0]).slice(0, 12);
  t.innerHTML = rows.map(([n, k]) => `<tr><td>${n}<td>${k}<td>${"x".repeat(n)}`).join("");
</script>
"""


def test(stage):
    firefox = programs.find_program("firefox-esr", "firefox")
    page = stage.write("page.html", PAGE)
    stage.has_own_malloc = True
    pictures = []
    for tarn in (False, True):
        name = "tarn" if tarn else "glibc"
        profile = stage.path(f"profile-{name}")
        os.mkdir(profile)
        picture = stage.path(f"{name}.png")
        # Without the witness, which takes for granted that malloc is tarn's.
        env = {"LD_PRELOAD": stage.preload} if tarn and not stage.reference else None
        stage.run(
            [firefox, "--headless", "--no-remote", "--profile", profile, "--window-size=500,400"]
            + [f"--screenshot={picture}", f"file://{page}"],
            tarn=tarn,
            env=env,
        )
        if not os.path.exists(picture):
            raise programs.fail_on(tarn, "no screenshot")
        with open(picture, "rb") as file:
            pictures.append(file.read())
    if pictures[0] != pictures[1]:
        raise programs.Difference("the screenshots differ")


if __name__ == "__main__":
    programs.main(test)
