#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A browser without a display draws a page that scripts have built: the picture is the same, to the byte, as on glibc.

The second argument is firefox or chromium. firefox has a malloc of its own in the executable, and replaces some of the
operators. tarn's other forms have to go by those, and no process of it is seen to have its malloc from tarn.
"""

import os

import programs

PAGE = r"""<!doctype html><meta charset=utf-8><title>page</title>
<style>body { background: #fff; font: 20px monospace } td { border: 1px solid #888 } .b { display: inline-block; width: 40px }</style>
<h1>A page</h1><canvas id=canvas width=300 height=150></canvas>
<svg width=200 height=150><circle cx=80 cy=70 r=60 fill=teal /><path d="M0 0 L190 140" stroke=red /></svg>
<table id=table></table><p id=text></p>
<script>
  const context = document.getElementById('canvas').getContext('2d');
  for (let i = 0; i < 20; i++) {
    context.fillStyle = `rgb(${i * 12},${255 - i * 12},80)`;
    context.fillRect(i * 15, i * 7, 14, 9);
  }
  const map = new Map();
  let random = 7;
  for (let i = 0; i < 60000; i++) {
    random = (Math.imul(random, 1103515245) + 12345) >>> 1;
    map.set('k' + random % 9973, {i, text: 'x'.repeat(random % 90)});
  }
  // Elements that come and go, so that the page's own memory does.
  for (let round = 0; round < 5; round++) {
    const all = document.createElement('div');
    for (let i = 0; i < 3000; i++) {
      const element = document.createElement('span');
      element.textContent = 'element ' + i;
      element.style.color = '#' + (i * 4099 % 0xffffff).toString(16).padStart(6, '0');
      all.append(element);
    }
    document.body.append(all);
    all.getBoundingClientRect();
    all.remove();
  }
  const table = document.getElementById('table');
  for (let row = 0; row < 6; row++) {
    const line = table.insertRow();
    for (let column = 0; column < 12; column++) line.insertCell().textContent = row * column;
  }
  const regexp = [...map.keys()].filter((key) => /[13]7|9$/.test(key)).length;
  const json = JSON.parse(JSON.stringify([...map])).length;
  document.getElementById('text').textContent = [map.size, regexp, json].join(' ');
</script>
"""

CHROMIUM_FLAGS = """--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking
    --disable-component-update --disable-sync --disable-extensions --disable-default-apps --disable-dev-shm-usage
    --hide-scrollbars --force-device-scale-factor=1 --window-size=800,700""".split()


def command_of(browser, executable, profile, picture, page):
    url = "file://" + page
    if browser == "firefox":
        return [executable, "--headless", "--no-remote", "--profile", profile, "--window-size=800,700", "--screenshot",
                picture, url]
    return [executable, *CHROMIUM_FLAGS, "--user-data-dir=" + profile, "--screenshot=" + picture, url]


def test(stage, browser):
    names = ("firefox-esr", "firefox") if browser == "firefox" else ("chromium", "chromium-browser")
    executable = programs.find_program(*names)
    page = stage.write("page.html", PAGE)
    # A place for sockets, which the machine may not have for us.
    os.mkdir(stage.path("run"), 0o700)
    env = {"XDG_RUNTIME_DIR": stage.path("run"), "MOZ_CRASHREPORTER_DISABLE": "1", "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    on_tarn = env
    if browser == "firefox" and not stage.reference:
        # Without the witness, which takes for granted that malloc is tarn's.
        stage.has_own_malloc = True
        on_tarn = dict(env, LD_PRELOAD=stage.preload)
    pictures = []
    for run, tarn in (("first", False), ("second", False), ("tarn", True)):
        profile = stage.path(run)
        os.mkdir(profile)
        picture = stage.path(run + ".png")
        stage.run(command_of(browser, executable, profile, picture, page), tarn=tarn, env=on_tarn if tarn else env)
        if not os.path.exists(picture):
            raise programs.fail_on(tarn, "there is no picture")
        with open(picture, "rb") as file:
            pictures.append(file.read())
    if pictures[0] != pictures[1]:
        raise programs.Skip("two pictures on glibc differ")
    if pictures[2] != pictures[0]:
        raise programs.Difference("another picture than on glibc")
    if not stage.has_own_malloc:
        stage.require_witnessed(browser)


if __name__ == "__main__":
    programs.main(test)
