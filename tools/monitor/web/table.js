// SPDX-License-Identifier: Apache-2.0
//
// A table whose columns sort by buttons in their heads.
//
// A column: {key, title, value(row), show(row, value), text: not a number, help, bar(row): share for a bar}.
import { element } from "./dom.js";

export class SortableTable {
  // `sort`: {key, descending}, by which the rows are sorted at first; none: in the order in which they come.
  constructor(table, caption, columns, sort = null) {
    this.table = table;
    this.caption = caption;
    this.rows = [];
    this.sort = sort;
    this.setColumns(columns);
  }

  setColumns(columns, sort = this.sort) {
    this.columns = columns;
    this.sort = sort;
    this.heads = columns.map((column) => {
      const sign = element("span", { class: "sign", "aria-hidden": "true" });
      const button = element("button", { type: "button", title: column.help, onclick: () => this.toggle(column) },
        ...(column.text ? [column.title, sign] : [sign, column.title]));
      return element("th", { scope: "col", class: column.text ? "text" : "number" }, button);
    });
    this.body = element("tbody");
    this.table.replaceChildren(element("caption", { class: "unseen" }, this.caption),
      element("thead", {}, element("tr", {}, ...this.heads)), this.body);
    this.draw();
  }

  setRows(rows, footer = null) {
    this.rows = rows;
    this.footer = footer;
    this.draw();
  }

  toggle(column) {
    const again = this.sort?.key === column.key;
    this.sort = { key: column.key, descending: again ? !this.sort.descending : !column.text };
    this.draw();
    this.onsort?.();
  }

  sorted() {
    const column = this.columns.find(({ key }) => key === this.sort?.key);
    if (!column) return this.rows;
    const factor = this.sort.descending ? -1 : 1;
    const order = column.text
      ? (a, b) => String(column.value(a)).localeCompare(String(column.value(b)))
      : (a, b) => (column.value(a) ?? -Infinity) - (column.value(b) ?? -Infinity);
    return [...this.rows].sort((a, b) => factor * order(a, b));
  }

  draw() {
    this.heads.forEach((head, index) => {
      const sorts = this.columns[index].key === this.sort?.key;
      const state = sorts ? (this.sort.descending ? "descending" : "ascending") : null;
      if (state) head.setAttribute("aria-sort", state);
      else head.removeAttribute("aria-sort");
      head.querySelector(".sign").textContent = state === "descending" ? "▼" : state === "ascending" ? "▲" : "";
    });
    let rows = this.sorted();
    if (this.limit) rows = rows.slice(0, this.limit);
    // The focus stays on the button that had it, where its row is still there.
    const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.key : null;
    this.body.replaceChildren(...rows.map((row) => this.drawRow(row)));
    if (focused) [...this.body.querySelectorAll("[data-key]")].find(({ dataset }) => dataset.key === focused)?.focus();
    this.table.querySelector("tfoot")?.remove();
    if (this.footer) this.table.append(element("tfoot", {}, this.drawRow(this.footer)));
  }

  drawRow(row) {
    const cells = this.columns.map((column, index) => {
      const shown = column.show ? column.show(row, column.value(row)) : column.value(row);
      const attributes = { class: `${column.text ? "text" : "number"} ${column.mark?.(row) ?? ""}`.trim() };
      if (index === 0) attributes.scope = "row";
      const cell = element(index === 0 ? "th" : "td", attributes, shown ?? "–");
      if (column.bar) {
        const share = Math.max(0, Math.min(1, column.bar(row)));
        cell.classList.add("with-bar");
        cell.style.setProperty("--share", share.toFixed(4));
      }
      return cell;
    });
    return element("tr", { class: row.rowClass }, ...cells);
  }
}
