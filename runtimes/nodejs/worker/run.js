// SPDX-License-Identifier: Apache-2.0
// The server's side of one run: its process, log, time and outcome.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');

const CHILD = path.join(__dirname, 'child.js');
const RESOURCES = 'Function execution failed because of too much resource consumption';
// Where Node knows it, a run that is about to begin has no debugger that others could start either.
const QUIET = process.allowedNodeEnvironmentFlags.has('--disable-sigusr1') ? ['--disable-sigusr1'] : [];
let numbers = 0;

// A process that has loaded the function, and waits for its order.
class Ready {
  constructor(spec, code, scratch) {
    this.directory = path.join(scratch, `run-${numbers += 1}`);
    fs.mkdirSync(this.directory, { mode: 0o700 });
    // The memory of a run is its heap's limit; the pod's cgroup is behind that.
    const heap = Math.max(16, Math.floor(spec.memory_size / 1048576));
    this.process = spawn(
      process.execPath,
      [`--max-old-space-size=${heap}`, ...QUIET, CHILD, code, spec.entry, String(spec.limits.result_size)],
      {
        cwd: this.directory, detached: true, stdio: ['ignore', 'pipe', 'pipe', 'pipe', 'ipc'],
        env: { PATH: '/usr/local/bin:/usr/bin:/bin', LANG: 'C.UTF-8', HOME: this.directory, TMPDIR: this.directory },
      },
    );
    this.dead = false;
    this.process.on('error', () => { this.dead = true; });
    this.process.once('exit', () => { this.dead = true; });
  }

  discard() {
    kill(this.process.pid);
    fs.rmSync(this.directory, { recursive: true, force: true });
  }
}

function parents() {
  const found = new Map();
  for (const name of fs.readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const text = fs.readFileSync(`/proc/${name}/stat`, 'latin1');
      const [state, parent, , session] = text.slice(text.lastIndexOf(')') + 2).split(' ');
      if (state !== 'Z') found.set(Number(name), { parent: Number(parent), session: Number(session) });
    } catch { /* it has just ended */ }
  }
  return found;
}

// Kill a run's session and all that is below it.
function kill(pid) {
  if (!pid) return;
  for (let again = true; again;) {
    again = false;
    const seen = parents();
    const doomed = new Set([pid]);
    for (let size = 0; size !== doomed.size;) {
      size = doomed.size;
      for (const [id, { parent, session }] of seen) if (doomed.has(parent) || session === pid) doomed.add(id);
    }
    for (const id of doomed) {
      try {
        process.kill(id, 'SIGKILL');
        again = again || (id !== pid && seen.has(id));
      } catch { /* it is gone */ }
    }
  }
}

class Run {
  constructor(order, spec, onLog) {
    this.order = order;
    this.spec = spec;
    this.onLog = onLog;
    this.why = null;
    this.left = spec.limits.log_size;
    this.cut = false;
    this.result = [];
    this.resultSize = 0;
  }

  take(data) {
    const kept = data.subarray(0, this.left);
    this.left -= kept.length;
    this.cut = this.cut || kept.length < data.length;
    if (kept.length) this.onLog(kept);
  }

  // Begin in a process that is ready; return the result when all of it is gone.
  async run(ready) {
    const child = ready.process;
    this.child = child;
    const began = performance.now();
    child.stdout.on('data', (data) => this.take(data));
    child.stderr.on('data', (data) => this.take(data));
    child.stdio[3].on('data', (data) => {
      this.resultSize += data.length;
      if (this.resultSize <= this.spec.limits.result_size + 16384) this.result.push(data);
    });
    const timer = setTimeout(() => this.stop('timeout'), this.order.timeout * 1000);
    const closed = new Promise((resolve) => { child.once('close', resolve); });
    const exited = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
    child.once('error', () => this.stop('error'));
    if (this.why) this.stop(this.why);
    child.send(this.order, () => {});
    const status = ready.dead && child.exitCode !== null ? { code: child.exitCode, signal: null } : await exited;
    clearTimeout(timer);
    kill(child.pid); // what it has left behind, which may hold the pipes open
    await closed;
    fs.rmSync(ready.directory, { recursive: true, force: true });
    if (this.cut) {
      this.onLog(Buffer.from(`\n[The log was cut here: its limit is ${this.spec.limits.log_size} bytes.]\n`));
    }
    const duration = Math.round(performance.now() - began) / 1000;
    return { ...this.judge(status, duration), log_truncated: this.cut };
  }

  stop(why) {
    this.why = this.why || why;
    if (this.child) kill(this.child.pid);
  }

  judge({ code, signal }, duration) {
    const failure = (reason, output) => ({ output, duration, success: false, reason });
    if (this.why === 'timeout') return failure('timeout', 'Function execution timeout');
    if (this.why === 'error') return failure('error', 'The worker could not start a process for the run.');
    if (this.why) return failure('cancelled', 'The run was cancelled.');
    if (signal === 'SIGKILL' || signal === 'SIGABRT' || code === 134) return failure('memory', RESOURCES);
    if (signal) return failure('signal', `The function's process was killed by signal ${signal}.`);
    try {
      const answer = JSON.parse(Buffer.concat(this.result).toString());
      if (code === 0 && typeof answer.success === 'boolean' && typeof answer.duration === 'number') {
        const { output = null, reason = null } = answer;
        return { output, duration: answer.duration, success: answer.success, reason };
      }
    } catch { /* no report, or one that was spoilt */ }
    return failure('exit', `The function ended its process with status ${code} instead of returning.`);
  }
}

module.exports = { Ready, Run };
