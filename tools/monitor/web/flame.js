// SPDX-License-Identifier: Apache-2.0
//
// The flame graph: d3-flame-graph draws it; the keyboard, names for screen readers, and colours are ours.
import flamegraph from "d3-flame-graph";
import { select } from "d3-selection";
import { element, setText } from "./dom.js";
import { percent, signed } from "./format.js";

const ROW_PIXELS = 20;
const LEAST_FRAME_PIXELS = 2;
const ZOOM_MS = 200;
const COLOURS = 6;

// A function keeps its colour from one profile to the next.
function colourOf(name) {
  let hash = 0;
  for (let i = 0; i < name.length; i += 1) hash = (hash * 31 + name.charCodeAt(i)) | 0;
  return `var(--flame-${Math.abs(hash) % COLOURS})`;
}

// How strongly a part has changed, in three steps.
function changeColour({ change, value }) {
  if (change === 0) return "var(--same)";
  const share = Math.abs(change) / value;
  const step = share > 0.5 ? 3 : share > 0.1 ? 2 : 1;
  return `var(--${change > 0 ? "grown" : "shrunk"}-${step})`;
}

export class Flame {
  // `details` shows the frame that is pointed at, `found` is told what a search found, `zoomed` whether it is zoomed.
  constructor(container, { details, found, zoomed }) {
    this.container = container;
    this.details = details;
    this.found = found;
    this.zoomed = zoomed;
    this.term = "";
    this.width = 0;
    container.addEventListener("keydown", (event) => this.key(event));
    container.addEventListener("focusin", (event) => {
      const frame = event.target.closest("g.frame");
      if (!frame) return;
      this.makeCurrent(frame);
      setText(this.details, this.describe(frame.__data__));
    });
    new ResizeObserver(() => this.fit()).observe(container);
  }

  // Shows a tree of treeOf(). The part that was zoomed into stays, where it is still there.
  show(tree, { format, isDifference }) {
    const zoomedPath = this.path;
    this.tree = tree;
    this.format = format;
    this.isDifference = isDifference;
    this.path = null;
    this.chart?.destroy();
    this.chart = null;
    this.container.replaceChildren();
    setText(this.details, "");
    this.zoomed(false);
    if (tree.value <= 0) {
      this.container.append(element("p", { class: "quiet" }, "There is nothing to draw."));
      return;
    }
    this.target = element("div");
    this.container.append(this.target);
    this.width = this.container.clientWidth;
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.chart = flamegraph()
      .width(this.width)
      .cellHeight(ROW_PIXELS)
      .minFrameSize(LEAST_FRAME_PIXELS)
      .inverted(true)
      .resetHeightOnZoom(true)
      .transitionDuration(still ? 0 : ZOOM_MS)
      .getName(({ data }) =>
        (isDifference && data.change !== 0 ? `${data.name} ${signed(data.change, format)}` : data.name))
      .label((node) => this.describe(node))
      .setDetailsHandler((text) => setText(this.details, text ?? ""))
      .setColorMapper((node) => {
        if (node.highlight) return "var(--flame-hit)";
        return isDifference ? changeColour(node.data) : colourOf(node.data.name);
      })
      .setSearchMatch((node, term) => term !== "" && node.data.name.toLowerCase().includes(term.toLowerCase()))
      .setSearchHandler((matches, sum) => this.found(matches.length, sum, sum / this.tree.value))
      .onClick((node) => this.afterZoom(node));
    select(this.target).datum(tree).call(this.chart);
    this.root = select(this.target).datum();
    if (this.term) this.search(this.term);
    const again = zoomedPath && this.find(zoomedPath);
    if (again) this.chart.zoomTo(again);
    this.decorate();
  }

  describe({ data }) {
    const parts = [data.name, this.format(this.isDifference ? data.now : data.value)];
    if (this.isDifference) parts.push(`${signed(data.change, this.format)} since the mark`);
    else parts.push(percent(data.value / this.tree.value));
    return parts.join(", ");
  }

  search(term) {
    this.term = term;
    if (!this.chart) return;
    if (term) {
      this.chart.search(term);
    } else {
      this.chart.clear();
      this.found(0, 0, 0);
    }
    this.decorate();
  }

  // Puts the focus on the widest frame that was found.
  focusFound() {
    const found = this.frames().filter((frame) => frame.__data__.highlight);
    found.sort((a, b) => b.__data__.value - a.__data__.value)[0]?.focus();
  }

  reset() {
    if (this.chart) this.chart.resetZoom();
  }

  // From here on all is internal.

  frames() {
    return [...this.container.querySelectorAll("g.frame")];
  }

  find(path) {
    let node = this.root;
    for (const name of path) {
      node = node.children?.find(({ data }) => data.name === name);
      if (!node) return null;
    }
    return node;
  }

  afterZoom(node) {
    const path = node.ancestors().map(({ data }) => data.name).reverse().slice(1);
    this.path = path.length > 0 ? path : null;
    this.zoomed(path.length > 0);
    this.decorate();
  }

  fit() {
    const width = this.container.clientWidth;
    if (!this.chart || width === this.width || width === 0) return;
    this.width = width;
    this.chart.width(width).update();
    this.decorate();
  }

  // Makes the rectangles of d3-flame-graph buttons with names, of which one is reached by Tab.
  decorate() {
    const frames = this.frames();
    const svg = this.container.querySelector("svg");
    // d3-flame-graph leaves room for a title, which is elsewhere here.
    svg.setAttribute("height", ROW_PIXELS * (1 + Math.max(...frames.map(({ __data__: { depth } }) => depth))));
    svg.setAttribute("role", "group");
    svg.setAttribute("aria-labelledby", "flame-heading");
    svg.setAttribute("aria-describedby", "flame-help");
    for (const frame of frames) {
      frame.setAttribute("role", "button");
      frame.setAttribute("aria-label", this.describe(frame.__data__));
      frame.setAttribute("tabindex", "-1");
      frame.classList.toggle("found", Boolean(frame.__data__.highlight));
    }
    this.makeCurrent(frames.find((frame) => frame.__data__ === this.current) ?? frames[0]);
  }

  makeCurrent(frame) {
    if (!frame) return;
    this.container.querySelector('g[tabindex="0"]')?.setAttribute("tabindex", "-1");
    frame.setAttribute("tabindex", "0");
    this.current = frame.__data__;
  }

  key(event) {
    const node = event.target.__data__;
    if (!node || event.ctrlKey || event.metaKey || event.altKey) return;
    const frames = this.frames();
    const frameOf = (wanted) => frames.find((frame) => frame.__data__ === wanted);
    // Only frames that are wide enough are drawn.
    const neighbour = (step) => {
      const row = frames.filter(({ __data__: each }) => each.depth === node.depth)
        .sort((a, b) => a.__data__.x0 - b.__data__.x0);
      return row[row.indexOf(event.target) + step];
    };
    const moves = {
      ArrowUp: () => node.parent && frameOf(node.parent),
      ArrowDown: () => (node.children ?? []).map(frameOf).find(Boolean),
      ArrowLeft: () => neighbour(-1),
      ArrowRight: () => neighbour(1),
      Home: () => frames[0],
    };
    if (moves[event.key]) moves[event.key]()?.focus();
    else if (event.key === "Enter" || event.key === " ") this.chart.zoomTo(node);
    else if (event.key === "Escape") this.reset();
    else return;
    event.preventDefault();
  }
}
