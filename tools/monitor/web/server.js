// SPDX-License-Identifier: Apache-2.0
//
// Asks the server. Paths are relative, for the page may lie below another path.

const SCHEMA = "tarn-page/1";
const ANSWER_MS = 60e3; // the first profile of a large program reads its debug information

// A sentence for people on why there is no answer.
export class Unavailable extends Error {}

export async function ask(path) {
  let response;
  try {
    response = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  } catch {
    throw new Unavailable("tarn serve does not answer; it ends with the process it watches.");
  }
  const body = await response.json().catch(() => ({}));
  if (body.gone !== undefined) throw new Unavailable(`The process is gone${body.gone ? `: ${body.gone}` : ""}.`);
  if (body.busy) throw new Unavailable(`No profile: ${body.busy}.`);
  if (!response.ok) throw new Unavailable(`tarn serve answers with status ${response.status}.`);
  if (body.schema !== SCHEMA) throw new Unavailable("This page is of another version than tarn serve; load it again.");
  return body;
}

// The limit that counts: the lower one, or null.
export function limitOf(figures) {
  const limits = [figures.soft_limit_bytes, figures.hard_limit_bytes].filter((limit) => limit !== null);
  return limits.length > 0 ? Math.min(...limits) : null;
}
