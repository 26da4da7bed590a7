// SPDX-License-Identifier: Apache-2.0
// The worker's own log on standard error: lines of text, or JSON with the names of oslo.log.
'use strict';

const json = process.env.QINLING_RUNTIME_LOG === 'json';
delete process.env.QINLING_RUNTIME_LOG;

// request: what asked for it; its ids go with the line.
function write(level, message, { request = {}, error = null } = {}) {
  const context = {};
  for (const name of ['request_id', 'global_request_id']) {
    if (request[name]) context[name] = String(request[name]);
  }
  const line = {
    asctime: new Date().toISOString(), process: process.pid, levelname: level,
    name: 'qinling.runtime', message, context,
    ...(error && { traceback: String(error.stack).split('\n') }),
  };
  const ids = Object.values(context).join(' ');
  console.error(json ? JSON.stringify(line) : [
    `${line.asctime} worker[${line.process}] ${level} ${ids && `${ids}: `}${message}`,
    ...(line.traceback || []),
  ].join('\n'));
}

module.exports = { write };
