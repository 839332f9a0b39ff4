// SPDX-License-Identifier: Apache-2.0
//
// Elements. Names of functions and programs come from the process that is watched and may hold anything, so every text
// goes in as text; nothing in this page is ever parsed as HTML.

export const $ = (id) => document.getElementById(id);

// element("td", {class: "number"}, "12", otherElement)
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

// Changes a text only where it is another one, so that nothing flickers and selections stay.
export function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}

// Said by screen readers.
export function announce(text) {
  setText($("announcer"), text);
}
