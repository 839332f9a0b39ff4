// SPDX-License-Identifier: Apache-2.0
//
// Numbers as people read them. Bytes are binary: 1 KiB is 1024 bytes.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const MINUS = "\u2212";

// Three significant digits, whole above a hundred.
export function digits(value) {
  const size = Math.abs(value);
  const text = size >= 99.95 || size === 0 ? Math.round(size).toString() : size.toFixed(size >= 9.995 ? 1 : 2);
  return (value < 0 && Number(text) !== 0 ? MINUS : "") + text;
}

// "12.3 MiB" in its two parts.
export function bytesParts(bytes) {
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return [unit === 0 ? count(value) : digits(value), UNITS[unit]];
}

export function bytes(value) {
  return bytesParts(value).join("\u00a0");
}

// Without zeroes behind the point: "1.5 KiB", "64 MiB"; for what is round by nature.
export function withoutZeroes(text) {
  return text.replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");
}

// "1 234 567", with narrow blanks.
export function count(value) {
  const text = Math.abs(Math.round(value)).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
  return (value < 0 ? MINUS : "") + text;
}

// "+12.3 MiB", "−3", "0": a change always says its direction.
export function signed(value, format) {
  return value > 0 ? "+" + format(value) : format(value);
}

export function percent(share) {
  const value = share * 100;
  const text = value > 0 && value < 0.1 ? "<0.1" : value.toFixed(value >= 99.95 ? 0 : 1);
  return `${text}\u00a0%`;
}

export function rate(bytesPerSecond) {
  return bytes(bytesPerSecond) + "/s";
}

export function duration(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)}\u00a0s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}\u00a0min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}\u00a0h ${minutes % 60}\u00a0min`;
  return `${Math.floor(hours / 24)}\u00a0d ${hours % 24}\u00a0h`;
}

export function nanoseconds(ns) {
  if (ns < 1e3) return `${ns}\u00a0ns`;
  if (ns < 1e6) return `${digits(ns / 1e3)}\u00a0µs`;
  return ns < 1e9 ? `${digits(ns / 1e6)}\u00a0ms` : `${digits(ns / 1e9)}\u00a0s`;
}

const two = (number) => number.toString().padStart(2, "0");

// "14:05:09", in the reader's time zone.
export function clock(ms) {
  const time = new Date(ms);
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
}

// "/usr/src/redis/dict.c" becomes "redis/dict.c": what tells files apart stands at the end.
export function shortFile(path) {
  return path.split("/").slice(-2).join("/");
}
