// SPDX-License-Identifier: Apache-2.0
//
// Heap profiles: what /api/heap says, the tree of a flame graph, allocation sites, and the difference of two profiles.

// The values of a stack, in the order in which the server sends them.
export const TYPES = [
  { key: "inuse_space", index: 3, title: "Live bytes", bytes: true },
  { key: "inuse_objects", index: 2, title: "Live objects" },
  { key: "alloc_space", index: 1, title: "Allocated bytes", bytes: true },
  { key: "alloc_objects", index: 0, title: "Allocated objects" },
];
export const [ALLOC_OBJECTS, ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE] = [0, 1, 2, 3];
const NOTHING = [0, 0, 0, 0];
const SEPARATOR = "\u0000";

const plus = (a, b) => a.map((value, index) => value + b[index]);
const minus = (a, b) => a.map((value, index) => value - b[index]);

// The calls between the program and malloc: the standard library, and functions that are malloc by another name
// (zmalloc, xcalloc, g_realloc). Also the code that runs before main.
const BETWEEN = new RegExp([
  "^(std|__gnu_cxx|__cxxabiv1)::",
  "^operator new",
  "^_*([a-z]{1,4}_?)?(try_?)?(m|c|re)alloc(array)?[0-9]?(_\\w+)?$",
  "^(_start|__libc_start_\\w+)$",
].join("|"));

// Texts that say little at great length.
const LONG_NAMES = [
  [/std::__cxx11::basic_string<char, std::char_traits<char>, std::allocator<char> ?>/g, "std::string"],
  [/std::basic_string_view<char, std::char_traits<char> ?>/g, "std::string_view"],
  [/std::__cxx11::/g, "std::"],
];

function shortName(name) {
  return LONG_NAMES.reduce((text, [long, short]) => text.replace(long, short), name);
}

// The same profile without those: what they allocated belongs to the program's own call, as a site and in the flame
// graph. A stack of nothing else keeps its first call.
export function ownCalls(heap) {
  const own = (calls) => {
    const kept = calls.filter(({ isBetween }) => !isBetween);
    return kept.length > 0 ? kept : calls.slice(0, 1);
  };
  return { ...heap, stacks: heap.stacks.map(({ calls, values }) => ({ calls: own(calls), values })) };
}

// {timeMs, pid, rateBytes, stacks: [{calls, values}], total}
export function readHeap(body) {
  const names = body.strings.map(shortName);
  const calls = body.calls.map(([name, file, line]) => ({
    name: names[name], file: body.strings[file], line, isBetween: BETWEEN.test(names[name]),
    key: [body.strings[name], body.strings[file], line].join(SEPARATOR),
  }));
  const stacks = body.stacks.map((ids, index) => ({ calls: ids.map((id) => calls[id]), values: body.values[index] }));
  if (body.other_stacks > 0) {
    const name = `(${body.other_stacks} smaller stacks)`;
    // Their number changes, what they are does not: so that two profiles have the same key for them.
    stacks.push({ calls: [{ name, file: "", line: 0, key: "(smaller stacks)" }], values: body.other_values });
  }
  return {
    timeMs: body.time_ms, pid: body.pid, rateBytes: body.rate_bytes, stacks,
    total: stacks.reduce((sum, { values }) => plus(sum, values), NOTHING),
  };
}

// [{key, name, file, line, self, total, selfChange, totalChange}], each with the four values: what a place in the
// program allocated itself, and with what it called. The changes are those since `before`.
export function sitesOf(heap, before = null) {
  const sites = new Map();
  const add = (stacks, field) => {
    for (const { calls, values } of stacks) {
      const seen = new Set();
      for (const call of calls) {
        if (seen.has(call.key)) continue;
        seen.add(call.key);
        let site = sites.get(call.key);
        if (!site) {
          const { key, name, file, line } = call;
          site = { key, name, file, line, self: NOTHING, total: NOTHING, selfBefore: NOTHING, totalBefore: NOTHING };
          sites.set(call.key, site);
        }
        site["total" + field] = plus(site["total" + field], values);
      }
      const last = calls.at(-1);
      if (last) sites.get(last.key)["self" + field] = plus(sites.get(last.key)["self" + field], values);
    }
  };
  add(heap.stacks, "");
  if (before) add(before.stacks, "Before");
  return [...sites.values()].map((site) => ({
    ...site,
    selfChange: minus(site.self, site.selfBefore),
    totalChange: minus(site.total, site.totalBefore),
  }));
}

// {name, value, change, children}: functions, callers above. With `before`, the width of a stack is the larger one of
// its two values, so that what has gone is seen as well.
export function treeOf(heap, type, before = null) {
  const byStack = new Map();
  const add = (stacks, place) => {
    for (const { calls, values } of stacks) {
      const names = calls.map(({ name, key }) => (key === "(smaller stacks)" ? "(smaller stacks)" : name));
      const key = names.join(SEPARATOR);
      let stack = byStack.get(key);
      if (!stack) byStack.set(key, stack = { names, now: 0, before: 0 });
      stack[place] += values[type.index];
    }
  };
  add(heap.stacks, "now");
  if (before) add(before.stacks, "before");
  const root = { name: "all", value: 0, change: 0, now: 0, children: new Map() };
  for (const stack of byStack.values()) {
    const value = Math.max(stack.now, stack.before);
    if (value <= 0) continue;
    let node = root;
    const count = () => {
      node.value += value;
      node.now += stack.now;
      node.change += stack.now - stack.before;
    };
    count();
    for (const name of stack.names) {
      if (!node.children.has(name)) node.children.set(name, { name, value: 0, change: 0, now: 0, children: new Map() });
      node = node.children.get(name);
      count();
    }
  }
  const finish = (node) => ({
    ...node,
    children: [...node.children.values()].map(finish).sort((a, b) => b.value - a.value),
  });
  return finish(root);
}
