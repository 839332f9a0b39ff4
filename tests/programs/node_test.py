#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""node: buffers, JSON, compression, worker threads and children, to the same output.

An argument gives how often it repeats the work; the longer test mode gives more.
"""

import programs

SCRIPT = r"""
const {Worker, isMainThread, workerData, parentPort} = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');
const {execFileSync} = require('child_process');

function digest(text) { return crypto.createHash('sha256').update(text).digest('hex').slice(0, 16); }

function work(seed) {
  const hash = crypto.createHash('sha256');
  let random = seed;
  const next = () => (random = (Math.imul(random, 1103515245) + 12345) >>> 1);
  const buffers = [];
  for (let i = 0; i < 3000; i++) {
    const buffer = Buffer.alloc(next() % 20000, i % 251);
    if (i % 3 == 0) buffers.push(buffer); else hash.update(buffer);
  }
  const all = Buffer.concat(buffers);
  const packed = zlib.gzipSync(all, {level: 6});
  if (!zlib.gunzipSync(packed).equals(all)) throw new Error('another content');
  const map = new Map();
  for (let i = 0; i < 30000; i++) map.set('key' + next() % 5000, 'x'.repeat(next() % 60));
  const json = JSON.stringify([...map].sort());
  hash.update(json).update(all);
  const brotli = zlib.brotliCompressSync(json, {params: {[zlib.constants.BROTLI_PARAM_QUALITY]: 4}});
  hash.update(zlib.brotliDecompressSync(brotli));
  return hash.digest('hex').slice(0, 16);
}

async function main() {
  const rounds = Number(process.argv[2]);
  for (let round = 0; round < rounds; round++) {
    console.log('main', work(round + 1));
    const workers = [1, 2, 3].map((n) => new Promise((resolve, reject) => {
      const worker = new Worker(__filename, {workerData: round * 10 + n});
      worker.on('message', resolve);
      worker.on('error', reject);
    }));
    const streams = [1, 2, 3, 4].map((n) => new Promise((resolve, reject) =>
      zlib.deflate(Buffer.alloc(500000 * n, 'text ' + n), (error, data) => error ? reject(error) : resolve(data.length))));
    console.log('workers', await Promise.all(workers), await Promise.all(streams));
    console.log('child', String(execFileSync(process.execPath, ['-e', 'console.log(6 * 7)'])).trim());
    const keys = await new Promise((resolve, reject) =>
      crypto.pbkdf2('secret', 'salt', 1000, 64, 'sha512', (error, key) => error ? reject(error) : resolve(key)));
    console.log('key', digest(keys));
  }
}

if (isMainThread) main().catch((error) => { console.error(error); process.exit(1); });
else parentPort.postMessage(work(workerData));
"""


def test(stage, rounds="1"):
    node = programs.find_program("node", "nodejs")
    script = stage.write("work.js", SCRIPT)
    stage.compare([node, script, rounds])
    stage.require_witnessed("node")


if __name__ == "__main__":
    programs.main(test)
