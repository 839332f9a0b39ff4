#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The page of tarn serve in a headless Chromium: what it shows of a running program, by mouse and by keyboard, what a
screen reader gets, and that it asks nobody but its server.

Usage: page_test.py TARN PROGRAM     (PROGRAM: serve_program.cc)
"""

import base64
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import serve_test
from patience import PATIENCE_SECONDS
from serve_test import ONLY_HEAP, Program, Serve, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
AXE = os.path.join(os.environ["TARN_BUILD"], "tools/monitor/web/work/node_modules/axe-core/axe.min.js")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key of a reference in the WebDriver protocol
ENTER, ESCAPE, TAB, DOWN, LEFT, SPACE = "\ue007", "\ue00c", "\ue004", "\ue015", "\ue012", " "
MIB = 1 << 20


class Browser:
    """Chromium through chromedriver, by the WebDriver protocol."""

    def __init__(self):
        self.driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.driver.stdout:
            if match := re.search(r"successfully on port (\d+)", line):
                self.port = int(match.group(1))
                break
        self.path = "/session"
        options = {
            "binary": CHROMIUM,
            # Without its sandbox, which root has not, and without shared memory, of which containers have little.
            "args": ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--disable-extensions",
                     "--window-size=1280,900"],
        }
        answer = self.call("POST", "", {"capabilities": {"alwaysMatch": {
            # Of a script, the default is half a minute.
            "timeouts": {"script": PATIENCE_SECONDS * 1000, "pageLoad": PATIENCE_SECONDS * 1000},
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}})
        self.path = "/session/" + answer["sessionId"]

    def call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        connection.request(method, self.path + path, body=json.dumps(body or {}) if method == "POST" else None)
        value = json.loads(connection.getresponse().read())["value"]
        connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError("%s: %s" % (value["error"], value["message"]))
        return value

    def open(self, url):
        self.call("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        return self.call("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def wait_run(self, script, *arguments):
        """Of a promise."""
        script = "const done = arguments[arguments.length - 1]; (async (...arguments_) => { %s })(...arguments)" \
                 ".then(done, (error) => done({failed: String(error)}));" % script
        return self.call("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def devtools(self, command, **parameters):
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def focus(self, selector):
        self.run("document.querySelector(arguments[0]).focus()", selector)

    def keys(self, text):
        """To what has the focus."""
        presses = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self.call("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": presses}]})

    def label(self, element):
        return self.call("GET", "/element/%s/computedlabel" % element[ELEMENT])

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0]).textContent", selector)

    def log(self, kind):
        return self.call("POST", "/se/log", {"type": kind})

    def size(self, width, height, dark=False):
        self.devtools("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                      mobile=width < 600)
        self.devtools("Emulation.setEmulatedMedia",
                      features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
                                {"name": "prefers-reduced-motion", "value": "reduce"}])

    def picture(self, path):
        """Of the whole page."""
        size = self.devtools("Page.getLayoutMetrics")["cssContentSize"]
        taken = self.devtools("Page.captureScreenshot", captureBeyondViewport=True,
                              clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1})
        with open(path, "wb") as file:
            file.write(base64.b64decode(taken["data"]))

    def close(self):
        try:
            self.call("DELETE", "")
        finally:
            self.driver.terminate()
            self.driver.communicate()


def figures(pid):
    """The figures of tarn stat."""
    result = subprocess.run([serve_test.TARN, "stat", str(pid), "--json"], capture_output=True, text=True, timeout=PATIENCE_SECONDS,
                            check=True)
    return json.loads(result.stdout)


class Page(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)
        cls.browser.size(1280, 900)

    def open(self, serve, path="/"):
        # The page of the test before asks on, and its server has ended.
        self.browser.open("about:blank")
        self.browser.log("browser")
        self.browser.log("performance")
        self.browser.open(serve.url + path)
        wait_for(lambda: self.browser.run("return document.querySelectorAll('#sites-table tbody tr').length > 0"))

    def figure(self, name):
        return float(self.browser.run("return document.querySelector(`[data-figure=${arguments[0]}]`).dataset.value", name))

    def rows(self, table):
        """The texts of a table's cells."""
        return self.browser.run("return [...document.querySelectorAll(`#${arguments[0]} tbody tr`)].map("
                                "(row) => [...row.cells].map((cell) => cell.textContent))", table)

    def focused(self):
        return self.browser.run("return document.activeElement.getAttribute('aria-label') ?? "
                                "document.activeElement.textContent")

    def check_silence(self, serve):
        """Nothing in the console, and no request to another server."""
        self.assertEqual(self.browser.log("browser"), [])
        messages = [json.loads(entry["message"])["message"] for entry in self.browser.log("performance")]
        urls = [message["params"]["request"]["url"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        self.assertGreater(len(urls), 2)
        self.assertEqual([url for url in urls if not url.startswith((serve.url + "/", "data:"))], [])

    def check_accessibility(self, views=((1280, False), (1280, True), (390, False), (390, True))):
        """By axe-core, with its rules on contrast. Views are widths, and whether it is dark."""
        with open(AXE, encoding="utf-8") as file:
            self.browser.run(file.read() + "; window.axe = axe;")
        for width, dark in views:
            self.browser.size(width, 900, dark)
            found = self.browser.wait_run(
                "const {violations} = await axe.run(document, {resultTypes: ['violations']});"
                "return violations.map(({id, help, nodes}) => [id, help, nodes.slice(0, 3).map(({html, any}) => "
                "html.slice(0, 200) + (any[0]?.message ?? ''))]);")
            self.assertEqual(found, [], "%d %s" % (width, "dark" if dark else "light"))
        self.browser.size(1280, 900)

    def test_a_program(self):
        browser = self.browser
        with Program() as program, Serve(program.pid, "--interval", "0.5", *ONLY_HEAP) as serve:
            program.do("hold 20")
            self.open(serve)
            self.assertTrue(browser.run("return document.querySelector('#all-targets').hidden"))

            with self.subTest("the figures are those of tarn stat"):
                # The process is quiet, but its background thread may still give memory back.
                def agree():
                    stats = figures(program.pid)["stats"]
                    pairs = (("live_bytes", stats["alloc_bytes"]), ("resident_bytes", stats["rss_bytes"]),
                             ("returned_bytes", stats["classes"]["heap_released_bytes"]))
                    return all(self.figure(name) == value for name, value in pairs) and stats

                stats = wait_for(agree)
                self.assertGreater(self.figure("live_bytes"), 20 * MIB)
                self.assertEqual(browser.text("#program"), "serve_program")
                self.assertIn("PID %d" % program.pid, browser.text("#process"))
                self.assertEqual(browser.text("#health"), "✓ Healthy")
                self.assertRegex(browser.text("#memory-chart"), r"Live \d.*\sMiB.*Resident \d.*\sMiB.*Limit none")

            with self.subTest("size classes sort by keyboard"):
                rows = self.rows("classes-table")
                self.assertEqual(len(rows), len(stats["by_size"]) + 1)
                self.assertEqual(rows[0][:2], ["64\u00a0KiB", "320"])
                browser.focus("#classes-table thead th:nth-child(1) button")
                browser.keys(ENTER + ENTER)
                self.assertEqual(browser.run("return document.activeElement.closest('th').ariaSort"), "ascending")
                sizes = [row["size_bytes"] for row in stats["by_size"]]
                self.assertEqual(self.rows("classes-table")[0][0], "%d\u00a0B" % min(sizes))

            with self.subTest("allocation sites"):
                site = self.rows("sites-table")[0]
                self.assertRegex(site[0], r"HoldBlocks.*serve_program\.cc:\d+|make_unique")
                browser.focus("#sites-filter")
                browser.keys("holdblocks")
                self.assertTrue(all("HoldBlocks" in row[0] for row in self.rows("sites-table")))
                self.assertGreater(len(self.rows("sites-table")), 0)
                browser.keys("xyz")
                self.assertIn("No site", browser.text("#sites-note"))
                browser.keys("\ue003" * 20)

            with self.subTest("the flame graph by keyboard"):
                browser.focus("#flame-search")
                browser.keys("holdblocks")
                self.assertRegex(browser.text("#flame-details"), r"Found in \d+ frames?: \d.*\sMiB, \d+(\.\d)?\s%")
                browser.keys(ENTER)
                self.assertRegex(self.focused(), r"HoldBlocks, \d.*MiB")
                self.assertTrue(browser.run("return document.querySelector('#flame-reset').disabled"))
                browser.keys(ENTER)
                self.assertFalse(browser.run("return document.querySelector('#flame-reset').disabled"))
                self.assertIn("HoldBlocks", self.focused())
                self.assertEqual(browser.run("return document.querySelectorAll('#flame g[tabindex=\"0\"]').length"), 1)
                browser.keys(ESCAPE)
                self.assertTrue(browser.run("return document.querySelector('#flame-reset').disabled"))
                browser.keys("\ue011")
                self.assertRegex(self.focused(), r"^all, .*100\s%")
                browser.keys(DOWN)
                self.assertNotRegex(self.focused(), "^all,")
                browser.focus("#flame-search")
                browser.keys("\ue003" * 12)

            with self.subTest("the chart by keyboard"):
                wait_for(lambda: browser.run("return Number(document.querySelector('.plot').ariaValueMax)") >= 2)
                browser.focus("#memory-chart .plot")
                browser.keys(LEFT)
                said = browser.run("return document.activeElement.ariaValueText")
                self.assertRegex(said, r"^\d\d:\d\d:\d\d: Live \d.*MiB, .*Limit none$")
                self.assertIn("at ", browser.text("#memory-chart figcaption"))

            with self.subTest("the difference of two moments"):
                browser.focus("#mark")
                browser.keys(ENTER)
                wait_for(lambda: "marked at" in browser.text("#taken"))
                program.do("hold 30")
                browser.focus("#difference")
                browser.keys(SPACE)
                wait_for(lambda: "since the mark" in browser.text("#heap-note"))
                row = wait_for(lambda: (rows := self.rows("sites-table")) and rows[0])
                self.assertRegex(row[1], r"^▲ \+\d\d(\.\d)?\sMiB$")
                # Six standard errors of 56 samples.
                self.assertAlmostEqual(float(re.search(r"[\d.]+", row[1])[0]), 30, delta=23)
                labels = browser.run("return [...document.querySelectorAll('#flame g')].map((g) => g.ariaLabel)")
                self.assertTrue(any(re.search(r"HoldBlocks.*\+\d.* MiB since the mark".replace(" ", r"\s"), label)
                                    for label in labels), labels)
                browser.keys(SPACE)

            with self.subTest("every stop of the Tab key has a name"):
                stops = browser.run("return [...document.querySelectorAll('a[href], button, input, select, summary, "
                                    "[tabindex=\"0\"]')].filter((each) => each.checkVisibility())")
                self.assertGreater(len(stops), 30)
                names = [browser.label(stop) for stop in stops]
                self.assertNotIn("", [name.strip() for name in names])

            with self.subTest("axe has nothing to say"):
                self.check_accessibility()

            with self.subTest("a phone"):
                browser.size(360, 740)
                self.assertLessEqual(browser.run("return document.documentElement.scrollWidth"), 360)
                browser.size(1280, 900)

            with self.subTest("a pause"):
                before = figures(program.pid)["stats"]["alloc_bytes"]
                browser.focus("#pause")
                browser.keys(ENTER)
                program.do("hold 10")
                self.assertEqual(browser.run("return document.querySelector('#pause').ariaPressed"), "true")
                browser.keys(ENTER)
                wait_for(lambda: self.figure("live_bytes") > before + 9 * MIB)
                # A look from before the pause may have seen a part.
                wait_for(lambda: self.figure("live_bytes") == figures(program.pid)["stats"]["alloc_bytes"])

            self.check_silence(serve)

            with self.subTest("the end"):
                last = self.figure("live_bytes")
                program.end()
                wait_for(lambda: not browser.run("return document.querySelector('#banner').hidden"))
                self.assertRegex(browser.text("#banner"), r"(gone|does not answer).* those of \d\d:\d\d:\d\d")
                self.assertEqual(self.figure("live_bytes"), last)
                self.assertIn("Gone", browser.text("#health"))

    def test_alerts_and_the_next_process(self):
        with tempfile.TemporaryDirectory() as directory:
            # As a name it is harmless; as HTML it would run.
            name = "<b onclick=1>&"
            path = os.path.join(directory, name)
            shutil.copy(serve_test.PROGRAM, path)
            with Serve("--name", name, "--interval", "0.2", "--threshold", "heap_mb=64", *ONLY_HEAP) as serve:
                with Program(path) as program:
                    wait_for(lambda: serve.get("/health")[0] == 200)
                    program.do("hold 10")
                    self.open(serve)
                    self.assertEqual(self.browser.text("#program"), name)
                    self.assertEqual(self.browser.run("return document.querySelectorAll('b').length"), 0)
                    program.do("hold 100")
                    wait_for(lambda: "1 alert: heap_mb" in self.browser.text("#health"))
                    # It may have been seen before all of it was there.
                    self.assertRegex(self.browser.text("#announcer"), r"Alert: heap_mb, .* is (1\d\d|\d\d\.\d)\sMiB")
                    row = next(row for row in self.rows("rules-table") if row[0] == "heap_mb")
                    self.assertRegex(row[1], r"Alert since \d\d:\d\d:\d\d")
                    self.assertTrue(self.browser.run("return document.title").startswith("▲"))
                    self.check_accessibility(views=((1280, False), (390, True)))
                    self.check_silence(serve)
                wait_for(lambda: "process is gone: " in self.browser.text("#banner"))
                with Program(path) as program:
                    wait_for(lambda: "PID %d " % program.pid in self.browser.text("#process"))
                    self.assertTrue(self.browser.run("return document.querySelector('#banner').hidden"))
                    self.assertEqual(self.browser.text("#health"), "✓ Healthy")

    def test_one_of_several(self):
        with Program() as one, Program() as other, \
             Serve("one=%d" % one.pid, "other=%d" % other.pid, *ONLY_HEAP) as serve:
            one.do("hold 20")
            self.open(serve, "/targets/one/")
            self.assertAlmostEqual(self.figure("live_bytes"), figures(one.pid)["stats"]["alloc_bytes"], delta=1 << 20)
            self.assertFalse(self.browser.run("return document.querySelector('#all-targets').hidden"))
            self.check_accessibility(views=((390, False), (1280, True)))
            self.browser.run("document.querySelector('#all-targets a').click()")
            wait_for(lambda: self.browser.run("return location.pathname") == "/targets")
            links = self.browser.run("return [...document.querySelectorAll('td:first-child a')].map((a) => a.textContent)")
            self.assertEqual(links, ["one", "other"])
            self.check_silence(serve)

    def test_headers(self):
        with Program() as program, Serve(program.pid) as serve:
            _, headers, text = serve.get("/")
            policy = headers["Content-Security-Policy"]
            self.assertRegex(policy, r"^default-src 'none'; script-src 'sha256-\S+'; style-src 'sha256-\S+'; "
                                     r"connect-src 'self'; .*frame-ancestors 'none'$")
            self.assertIn("Apache License", text)
            self.assertIn("uplot 1.", text)
            # Relative, so that it works below another path.
            self.assertNotRegex(text, r"[\"'`]/(api|metrics|health|debug)")
            self.assertNotRegex(text, r"(src|href)=\"?(https?:)?//")


def reason_to_skip():
    if not CHROMIUM or not DRIVER:
        return "no chromium and chromedriver here; tools/install_packages test gets them"
    if not os.path.exists(os.path.join(os.environ["TARN_BUILD"], "lib/tarn_page.html")):
        return "the page was not built, for want of npm or of its libraries"
    return None


if __name__ == "__main__":
    if reason := reason_to_skip():
        print("skipped: " + reason)
        sys.exit(77)
    serve_test.TARN, serve_test.PROGRAM = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
