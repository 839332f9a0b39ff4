// SPDX-License-Identifier: Apache-2.0
//
// The page of tarn serve: asks for the figures every interval, and hands them to the sections.
import "./page.css";
import "uplot/dist/uPlot.min.css";
import { makeClasses, showClasses } from "./classes.js";
import { $, announce, setText } from "./dom.js";
import { clock } from "./format.js";
import { forgetHeap, makeHeap, takeHeap } from "./heap_view.js";
import { continueHistory, makeHistory, needsHistory, setHistory, showHistory } from "./history.js";
import { makeNow, showNow } from "./now.js";
import { forgetRules, makeRules, showRules } from "./rules.js";
import { Unavailable, ask } from "./server.js";

// Between two questions: the interval of the server, but people do not wait for longer.
const LEAST_INTERVAL_MS = 1000;
const MOST_INTERVAL_MS = 10e3;

let now = null; // what the server said last
let isPaused = false;
let timer = null;

// Shows what is wrong with the server or its process; an empty text: nothing.
function showBanner(text) {
  const figures = text && now ? ` The figures below are those of ${clock(now.time_ms)}.` : "";
  $("banner").hidden = !text;
  setText($("banner"), text + figures);
  document.body.classList.toggle("stale", Boolean(text));
  if (!text) return;
  $("health").dataset.state = "gone";
  setText($("health"), "✕ Gone");
}

const isOther = (a, b) => a.pid !== b.pid || a.start_ms !== b.start_ms || a.program !== b.program;

async function refresh() {
  clearTimeout(timer);
  try {
    const before = now?.process;
    now = await ask("api/now");
    const isNext = Boolean(before) && isOther(before, now.process);
    if (isNext) {
      setHistory(null);
      forgetRules();
      forgetHeap();
      announce(`Another process: ${now.process.program}, PID ${now.process.pid}`);
    }
    if (needsHistory(now.process.pid)) setHistory(await ask("api/history"));
    if (!needsHistory(now.process.pid)) continueHistory(now);
    showBanner("");
    showNow(now);
    showRules(now);
    showClasses(now);
    showHistory();
    if (isNext || !before) takeHeap();
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    showBanner(error.message);
  } finally {
    clearTimeout(timer);
    const interval = Math.max(LEAST_INTERVAL_MS, Math.min(MOST_INTERVAL_MS, (now?.interval_s ?? 0) * 1000));
    if (!isPaused && !document.hidden) timer = setTimeout(refresh, interval);
  }
}

// The history of the server has what was missed.
function comeBack() {
  clearTimeout(timer);
  if (isPaused || document.hidden) return;
  setHistory(null);
  refresh();
}

// One of several lies below /targets/LABEL/.
$("all-targets").hidden = !/\/targets\/[^/]+\/$/.test(location.pathname);
makeNow();
makeHistory();
makeRules();
makeHeap();
makeClasses();
$("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  $("pause").setAttribute("aria-pressed", String(isPaused));
  comeBack();
});
document.addEventListener("visibilitychange", comeBack);
refresh();
