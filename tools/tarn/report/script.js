// SPDX-License-Identifier: Apache-2.0
//
// The page is complete without this script; it adds the choice of the figure, sorting, and opening of workloads.
"use strict";
(() => {
  document.body.classList.add("scripted");

  // One table at a time, chosen by buttons.
  const views = [...document.querySelectorAll(".view")];
  const bar = document.querySelector(".views");
  const choose = (chosen) => {
    views.forEach((view, i) => {
      view.hidden = i !== chosen;
      bar.children[i].setAttribute("aria-pressed", String(i === chosen));
    });
  };
  if (bar && views.length > 1) {
    views.forEach((view, i) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = view.querySelector("caption b").textContent;
      button.setAttribute("aria-controls", view.id);
      button.addEventListener("click", () => choose(i));
      bar.append(button);
    });
    choose(0);
  }

  // Sorting by a column: first ascending (names) or worst first (ratios), then the other way round.
  for (const table of document.querySelectorAll(".main")) {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      if (head.hasAttribute("data-plain")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const initial = column === 0 ? "ascending" : "descending";
        const other = column === 0 ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === initial ? other : initial;
        heads.forEach((each) => each.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const key = (row) => {
          const cell = row.cells[column];
          return column === 0 ? cell.firstElementChild.textContent : Number(cell.dataset.sort);
        };
        const none = (value) => value === 1e9;
        const rows = [...body.rows].sort((a, b) => {
          const x = key(a);
          const y = key(b);
          if (column === 0) return sign * x.localeCompare(y, "en", { numeric: true });
          if (none(x) || none(y)) return Number(none(x)) - Number(none(y));
          return sign * (x - y);
        });
        body.append(...rows);
      });
    });
  }

  // A link to a workload opens it; all of them are open on paper.
  const details = [...document.querySelectorAll("details")];
  const open = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (target instanceof HTMLDetailsElement) {
      target.open = true;
      target.scrollIntoView();
    }
  };
  addEventListener("hashchange", open);
  open();
  addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[href^='#w-']");
    if (link && link.hash === location.hash) open();
  });
  const all = document.querySelector(".all");
  if (all && details.length > 1) {
    const button = document.createElement("button");
    button.type = "button";
    const label = () => {
      button.textContent = details.every((each) => each.open) ? "Close all" : "Open all";
    };
    button.addEventListener("click", () => {
      const opened = details.every((each) => each.open);
      details.forEach((each) => (each.open = !opened));
      label();
    });
    details.forEach((each) => each.addEventListener("toggle", label));
    label();
    all.append(button);
  }
  let closed = [];
  addEventListener("beforeprint", () => {
    views.forEach((view) => (view.hidden = false));
    closed = details.filter((each) => !each.open);
    closed.forEach((each) => (each.open = true));
  });
  addEventListener("afterprint", () => {
    closed.forEach((each) => (each.open = false));
    const pressed = bar ? [...bar.children].findIndex((each) => each.getAttribute("aria-pressed") === "true") : -1;
    if (pressed >= 0) choose(pressed);
  });
})();
