// SPDX-License-Identifier: Apache-2.0
// Starts a worker: node main.js --listen host:port [--room N] [--scratch DIR] [--alone]
// --alone: nobody else uses /tmp and /dev/shm; what runs leave there is removed.
'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { Server } = require('./server');

const { values } = parseArgs({
  options: {
    listen: { type: 'string', default: '0.0.0.0:9090' },
    room: { type: 'string', default: '3' },
    scratch: { type: 'string' },
    alone: { type: 'boolean', default: false },
  },
});
// Node's own answer to it is a debugger on 127.0.0.1, which does what runs tell it.
process.on('SIGUSR1', () => {});
const secret = process.env.QINLING_RUNTIME_SECRET || '';
delete process.env.QINLING_RUNTIME_SECRET;
const scratch = values.scratch || fs.mkdtempSync(path.join(os.tmpdir(), 'qinling-worker-'));
fs.mkdirSync(scratch, { recursive: true });
const colon = values.listen.lastIndexOf(':');
const server = new Server({ secret, room: Number(values.room), scratch, alone: values.alone });
server.listen(values.listen.slice(0, colon), Number(values.listen.slice(colon + 1)));
for (const name of ['SIGTERM', 'SIGINT']) {
  process.on(name, async () => {
    await server.drain();
    fs.rmSync(scratch, { recursive: true, force: true });
    process.exit(0);
  });
}
