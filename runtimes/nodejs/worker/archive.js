// SPDX-License-Identifier: Apache-2.0
// Checks a package and unpacks it: a zip of plain files and folders, within limits.
'use strict';

const fs = require('node:fs');
const path = require('node:path');
const zlib = require('node:zlib');

const FILE = 0o100000;
const FOLDER = 0o040000;
const LIMITS = { unpacked_size: 256 << 20, entries: 10000, ratio: 200 };
const RATIO_FREE = 1 << 20;

class Refused extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

function bad(text) {
  return new Refused(400, text);
}

// Find the end of the central directory, which may be followed by a comment.
function findEnd(data) {
  for (let at = data.length - 22; at >= Math.max(0, data.length - 22 - 0xffff); at -= 1) {
    if (data.readUInt32LE(at) === 0x06054b50) return at;
  }
  throw bad('Package is not a valid ZIP package.');
}

function* entries(data) {
  const end = findEnd(data);
  const count = data.readUInt16LE(end + 10);
  let at = data.readUInt32LE(end + 16);
  for (let number = 0; number < count; number += 1) {
    if (data.readUInt32LE(at) !== 0x02014b50) throw bad('Package is damaged.');
    const nameSize = data.readUInt16LE(at + 28);
    yield {
      flags: data.readUInt16LE(at + 8),
      method: data.readUInt16LE(at + 10),
      crc: data.readUInt32LE(at + 16),
      packed: data.readUInt32LE(at + 20),
      size: data.readUInt32LE(at + 24),
      mode: data.readUInt16LE(at + 40),
      offset: data.readUInt32LE(at + 42),
      name: data.toString('utf8', at + 46, at + 46 + nameSize),
    };
    at += 46 + nameSize + data.readUInt16LE(at + 30) + data.readUInt16LE(at + 32);
  }
}

function check(entry, limits) {
  const parts = entry.name.replace(/\/$/, '').split('/').filter((part) => part !== '.');
  const shown = JSON.stringify(entry.name.slice(0, 100));
  if (!parts.length || parts.some((part) => !part || part === '..' || /[\0\\]/.test(part))) {
    throw bad(`The package has an entry with a path that is not allowed: ${shown}.`);
  }
  const kind = entry.mode & 0o170000;
  if (kind && kind !== FILE && kind !== FOLDER) {
    throw bad(`The package has an entry that is no file or folder: ${shown}.`);
  }
  if (entry.flags & 1) throw bad('The package is encrypted.');
  if (entry.method !== 0 && entry.method !== 8) {
    throw bad(`The entry ${shown} is packed with a method that is not supported: use deflate.`);
  }
  if (entry.size > Math.max(RATIO_FREE, entry.packed * limits.ratio)) {
    throw bad(`The entry ${shown} unpacks to more than ${limits.ratio} times its size.`);
  }
  return parts;
}

function content(data, entry) {
  const at = entry.offset;
  if (data.readUInt32LE(at) !== 0x04034b50) throw bad('Package is damaged.');
  const begin = at + 30 + data.readUInt16LE(at + 26) + data.readUInt16LE(at + 28);
  const packed = data.subarray(begin, begin + entry.packed);
  const found = entry.method === 0 ? packed
    : zlib.inflateRawSync(packed, { maxOutputLength: Math.max(1, entry.size) });
  if (found.length !== entry.size || (zlib.crc32 && zlib.crc32(found) !== entry.crc)) {
    throw bad('Package is damaged: an entry is not what its description says.');
  }
  return found;
}

// Unpack a zip into a new folder; nothing of it is left when it is refused.
function unpack(data, folder, given) {
  const limits = { ...LIMITS, ...given };
  let count = 0;
  let size = 0;
  fs.mkdirSync(folder);
  try {
    for (const entry of entries(data)) {
      const parts = check(entry, limits);
      count += 1;
      size += entry.size;
      if (count > limits.entries) throw bad(`The package has more than ${limits.entries} entries.`);
      if (size > limits.unpacked_size) {
        throw bad(`The package unpacks to more than ${limits.unpacked_size} bytes.`);
      }
      const target = path.join(folder, ...parts);
      if (entry.name.endsWith('/')) {
        fs.mkdirSync(target, { recursive: true });
      } else {
        fs.mkdirSync(path.dirname(target), { recursive: true });
        fs.writeFileSync(target, content(data, entry), { flag: 'wx', mode: entry.mode & 0o111 ? 0o755 : 0o644 });
      }
    }
  } catch (error) {
    fs.rmSync(folder, { recursive: true, force: true });
    throw error instanceof Refused ? error : bad('Package is damaged.');
  }
}

module.exports = { Refused, unpack };
