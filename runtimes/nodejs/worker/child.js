// SPDX-License-Identifier: Apache-2.0
// The process of one run: gets its order, calls the function, reports what came of it.
//
// It is started ahead of its order, with the function loaded, and ends with the run.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const util = require('node:util');

// As in main.js: here it would be runs of the same function that use the debugger.
process.on('SIGUSR1', () => {});

const RESULT = 3;
const [, , code, entry, resultSize] = process.argv;

// Writes that reach the pipe before the next line of the function runs.
for (const stream of [process.stdout, process.stderr]) {
  if (stream._handle && stream._handle.setBlocking) stream._handle.setBlocking(true);
}

function load() {
  const dot = entry.lastIndexOf('.');
  const called = require(path.join(code, entry.slice(0, dot).replaceAll('.', '/')))[entry.slice(dot + 1)];
  if (typeof called !== 'function') throw new TypeError(`${entry} is no function`);
  return called;
}

// Return JSON without what JavaScript would silently change: NaN, functions, symbols, undefined.
function encode(output) {
  const text = JSON.stringify(output === undefined ? null : output, (key, value) => {
    if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError(`${value} is no JSON`);
    if (['function', 'symbol', 'undefined'].includes(typeof value)) {
      throw new TypeError(`a ${typeof value} is no JSON`);
    }
    return value;
  });
  return text;
}

function report(answer) {
  let data = Buffer.from(JSON.stringify(answer));
  if (data.length > Number(resultSize) + 4096) {
    data = Buffer.from(JSON.stringify({
      ...answer, success: false, reason: 'too-large',
      output: `The result is larger than ${resultSize} bytes.`,
    }));
  }
  for (let at = 0; at < data.length;) at += fs.writeSync(RESULT, data, at);
  process.exit(0);
}

function failed(error, began) {
  process.stderr.write(`${util.inspect(error)}\n`);
  const named = error instanceof Error ? `${error.name}: ${error.message}` : util.inspect(error);
  report({ success: false, reason: 'exception', output: named, duration: since(began) });
}

function since(began) {
  return Math.round(performance.now() - began) / 1000;
}

let called;
let unloadable;
try {
  called = load();
} catch (error) {
  unloadable = error;
}

process.once('message', async (order) => {
  const began = performance.now();
  process.channel.unref();
  process.on('uncaughtException', (error) => failed(error, began));
  process.disconnect();
  if (unloadable) return failed(unloadable, began);
  const names = ['execution_id', 'attempt', 'function_id', 'function_version', 'request_id'];
  const context = { os_session: null };
  for (const name of names) context[name] = order[name];
  let output;
  try {
    output = await called(order.input === null ? undefined : order.input, context);
  } catch (error) {
    return failed(error, began);
  }
  const duration = since(began);
  let text;
  try {
    text = encode(output);
  } catch (error) {
    return report({
      success: false, reason: 'not-json', duration,
      output: `What the function returned is not JSON: ${error.message}`,
    });
  }
  return report({ success: true, reason: null, output: JSON.parse(text), duration });
});
// The server went away before there was an order.
process.once('disconnect', () => { if (!process.listenerCount('uncaughtException')) process.exit(0); });
process.send('ready');
