// SPDX-License-Identifier: Apache-2.0
// What the checks call, in JavaScript.
'use strict';

const fs = require('node:fs');

const state = { calls: 0 };

// The parent as /proc has it, empty where nothing is told of it.
function parent(process) {
  try {
    return /^PPid:\s*(\d+)/m.exec(fs.readFileSync(`/proc/${process}/status`, 'latin1'))[1];
  } catch {
    return '';
  }
}

// Which files with the memory and environment of processes above can be opened.
function ancestors() {
  const found = {};
  for (let process = parent('self'); !['', '0'].includes(process); process = parent(process)) {
    for (const name of ['mem', 'environ']) {
      try {
        fs.closeSync(fs.openSync(`/proc/${process}/${name}`, 'r'));
        found[`${process}/${name}`] = true;
      } catch {
        found[`${process}/${name}`] = false;
      }
    }
  }
  return found;
}

exports.main = async (input, context) => {
  if (input === undefined) return { values: [] };
  if (input === null || typeof input !== 'object' || Array.isArray(input)) {
    return { values: [input] };
  }
  const { do: what, value = { values: [] }, text = '', seconds = 0, size = 0 } = input;
  if (text) console.log(text);
  if (seconds) await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  switch (what) {
    case 'fail': throw new TypeError(text);
    case 'exit': return process.exit(3);
    case 'no-json': return 10n;
    case 'context': return context;
    case 'size': return 'x'.repeat(size);
    case 'print': process.stdout.write('x'.repeat(size)); return null;
    case 'memory': return Array.from({ length: size / 1024 }, () => 'x'.repeat(1024) + Math.random()).length;
    case 'trace': {
      const found = [state.calls, fs.existsSync('trace'), 'TRACE' in process.env];
      state.calls += 1;
      process.env.TRACE = '1';
      fs.writeFileSync('trace', '');
      return found;
    }
    case 'environment': return { ...process.env };
    case 'ancestors': return ancestors();
    default: return value;
  }
};
