// SPDX-License-Identifier: Apache-2.0
// The worker: an HTTP server that runs one function, as often as it is told to.
'use strict';

const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const path = require('node:path');
const { Refused, unpack } = require('./archive');
const journal = require('./journal');
const { Ready, Run } = require('./run');

const STREAM = 'application/vnd.qinling.run';
const BODY = 64 << 20;
const LIMITS = { log_size: 1 << 20, result_size: 16 << 20 };
// Where the programs of a container may write, most likely.
const SHARED = ['/tmp', '/var/tmp', '/dev/shm', '/dev/mqueue'];
const PACKAGE_SIZE = 64 << 20;

function same(one, other) {
  const digest = (text) => crypto.createHash('sha256').update(text).digest();
  return crypto.timingSafeEqual(digest(one), digest(other));
}

async function body(request, most, text) {
  const parts = [];
  let size = 0;
  for await (const part of request) {
    size += part.length;
    if (size > most) throw new Refused(413, text);
    parts.push(part);
  }
  return Buffer.concat(parts);
}

function frame(kind, payload) {
  const head = Buffer.alloc(5);
  head.write(kind);
  head.writeUInt32BE(payload.length, 1);
  return Buffer.concat([head, payload]);
}

function readSpec(text, room) {
  try {
    const given = JSON.parse(text);
    const spec = {
      function_id: given.function_id, function_version: given.function_version,
      entry: given.entry, sha256: given.sha256, memory_size: given.memory_size || 32 << 20,
      room: given.room || room, limits: { ...LIMITS, ...given.limits },
    };
    if (typeof spec.function_id === 'string' && Number.isInteger(spec.function_version)
        && /.\../.test(spec.entry) && typeof spec.sha256 === 'string') return spec;
  } catch { /* as below */ }
  throw new Refused(400, 'X-Worker-Spec is not valid: ids, sha256 and an entry such as main.main are wanted.');
}

class Server {
  constructor({ secret, room, scratch, alone }) {
    this.bearer = secret ? `Bearer ${secret}` : null;
    this.room = room;
    this.scratch = scratch;
    this.shared = alone ? SHARED : [];
    this.code = path.join(scratch, 'code');
    this.runs = new Map();
    this.spec = null;
    this.specialising = false;
    this.stopping = false;
    this.idleSince = performance.now();
    this.ready = [];
    this.http = http.createServer({ requestTimeout: 0, keepAliveTimeout: 0 }, (request, response) => {
      this.answer(request, response).catch((error) => this.refuse(request, response, error));
    });
  }

  listen(host, port) {
    this.http.listen(port, host);
    journal.write('INFO', `listening on ${host}:${port}`);
  }

  async drain() {
    this.stopping = true;
    this.http.close();
    while (this.runs.size) await new Promise((resolve) => setTimeout(resolve, 20));
    for (const ready of this.ready) ready.discard();
  }

  refuse(request, response, error) {
    if (response.headersSent || response.destroyed) return response.destroy();
    if (!(error instanceof Refused)) journal.write('ERROR', 'a request failed', { error });
    const [code, text] = error instanceof Refused ? [error.code, error.message] : [500, 'The worker failed.'];
    request.resume();
    return this.reply(response, code, { error: text });
  }

  reply(response, code, content) {
    const data = Buffer.from(JSON.stringify(content));
    response.writeHead(code, { 'Content-Type': 'application/json', 'Content-Length': data.length });
    response.end(data);
  }

  async answer(request, response) {
    const where = request.url.split('?')[0];
    if (where === '/ping') return this.reply(response, 200, this.state());
    const given = request.headers.authorization || '';
    const first = where === '/specialize' && request.method === 'POST' && !this.bearer;
    if (!first && !this.bearer) {
      throw new Refused(401, 'The worker has no secret yet; the first POST /specialize brings it.');
    }
    if (!first && !same(given, this.bearer)) throw new Refused(401, 'The secret is missing or wrong.');
    const cancelled = where.startsWith('/cancel/') ? where.slice('/cancel/'.length) : null;
    if (!['/specialize', '/execute'].includes(where) && !cancelled) {
      throw new Refused(404, 'There is nothing at this path.');
    }
    if (request.method !== 'POST') throw new Refused(405, 'POST is wanted.');
    if (where === '/execute') return this.execute(request, response);
    if (cancelled) {
      await body(request, BODY, 'The body is too large.');
      await this.cancel(cancelled);
      return this.reply(response, 200, { status: 'cancelled' });
    }
    await this.specialize(request, given);
    return this.reply(response, 200, { status: 'ready' });
  }

  state() {
    return {
      status: this.spec ? 'ready' : 'generic',
      function_id: this.spec && this.spec.function_id,
      function_version: this.spec && this.spec.function_version,
      room: this.room, running: this.runs.size, pid: process.pid,
      idle_seconds: this.runs.size ? 0 : Math.round(performance.now() - this.idleSince) / 1000,
      isolation: {
        user: false, private_tmp: false, private_ipc: false, private_pids: false,
        process_limit: false, private_proc: false, private_files: false, private_signals: false,
      },
    };
  }

  async specialize(request, given) {
    const spec = readSpec(request.headers['x-worker-spec'], this.room);
    if (this.specialising) throw new Refused(409, 'This worker has a function already.');
    if (!this.bearer) {
      if (!/^Bearer \S/.test(given)) {
        throw new Refused(401, "A bearer secret is wanted: it becomes this worker's own.");
      }
      this.bearer = given;
    }
    this.specialising = true;
    try {
      const limits = spec.limits.package || {};
      const data = await body(request, limits.size || PACKAGE_SIZE, 'The package is too large.');
      if (crypto.createHash('sha256').update(data).digest('hex') !== spec.sha256) {
        throw new Refused(400, "The package's SHA-256 is not the announced one.");
      }
      unpack(data, this.code, limits);
    } catch (error) {
      this.specialising = false;
      throw error;
    }
    this.spec = spec;
    this.room = spec.room;
    this.prepare();
  }

  prepare() {
    if (!this.stopping && !this.ready.length) this.ready.push(new Ready(this.spec, this.code, this.scratch));
  }

  take() {
    const found = this.ready.filter((ready) => !ready.dead);
    for (const ready of this.ready) if (ready.dead) ready.discard();
    this.ready = found;
    return this.ready.shift() || new Ready(this.spec, this.code, this.scratch);
  }

  order(text) {
    try {
      const order = JSON.parse(text);
      if (order.execution_id && order.timeout > 0 && order.timeout < 1e7) {
        return { input: null, ...order, execution_id: String(order.execution_id) };
      }
    } catch { /* as below */ }
    throw new Refused(400, 'The body is no order for a run: execution_id and timeout are wanted.');
  }

  async execute(request, response) {
    const order = this.order(await body(request, BODY, 'The body is too large.'));
    if (this.stopping) throw new Refused(503, 'This worker is about to end.');
    if (!this.spec) throw new Refused(409, 'This worker has no function yet.');
    if (order.function_id !== this.spec.function_id || order.function_version !== this.spec.function_version) {
      throw new Refused(409, 'This worker runs another function.');
    }
    if (this.runs.has(order.execution_id)) throw new Refused(409, 'The execution is running here already.');
    if (this.runs.size >= this.room) throw new Refused(429, 'There is no room for another run.');
    const streamed = (request.headers.accept || '').includes(STREAM);
    const log = [];
    if (streamed) response.writeHead(200, { 'Content-Type': STREAM });
    const run = new Run(order, this.spec, (data) => (streamed ? response.write(frame('L', data)) : log.push(data)));
    // The caller holds the lease of this run: without it the run must not go on.
    response.once('close', () => { if (!response.writableEnded) run.stop('cancelled'); });
    const ended = run.run(this.take());
    this.runs.set(order.execution_id, { run, ended });
    let result;
    try {
      result = await ended;
    } finally {
      this.runs.delete(order.execution_id);
      this.idleSince = performance.now();
      if (!this.runs.size) this.clear();
    }
    setImmediate(() => this.prepare());
    if (![null, 'exception'].includes(result.reason)) {
      journal.write('INFO', `execution ${order.execution_id} ended: ${result.reason}`, { request: order });
    }
    if (streamed) response.end(frame('R', Buffer.from(JSON.stringify(result))));
    else this.reply(response, 200, { ...result, logs: Buffer.concat(log).toString() });
  }

  // While there are several runs nobody can tell whose a file is: they have the same user.
  clear() {
    for (const folder of this.shared) {
      let names = [];
      try { names = fs.readdirSync(folder); } catch { /* there is none */ }
      for (const found of names.map((name) => path.join(folder, name))) {
        if (`${this.scratch}/`.startsWith(`${found}/`)) continue;
        try {
          fs.rmSync(found, { recursive: true, force: true });
        } catch { /* it stays: the root file system can't be written to */ }
      }
    }
  }

  async cancel(id) {
    const found = this.runs.get(id);
    if (!found) throw new Refused(404, 'The execution is not running here.');
    found.run.stop('cancelled');
    await found.ended;
  }
}

module.exports = { Server };
