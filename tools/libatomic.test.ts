import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { removeLibatomic } from './libatomic.ts';

const directory = mkdtempSync(join(tmpdir(), 'virt-trust-libatomic-'));
const program = join(directory, 'node');
/** The pinned Node as it is; each test changes a few bytes and puts them back. */
let original: Buffer;

before(() => {
  original = readFileSync(process.execPath);
  const patched = Buffer.from(original);
  removeLibatomic(patched);
  writeFileSync(program, patched, { mode: 0o755 });
});
after(() => rmSync(directory, { recursive: true }));

/** What the dynamic loader would load for a program (ld.so(8)); nothing of it runs. */
function loadedBy(file: string): string {
  return execFileSync(file, { env: { LD_TRACE_LOADED_OBJECTS: '1' }, encoding: 'utf8' });
}

test('the changed Node loads no libatomic, and everything else that it loaded before', () => {
  const names = (text: string) => [...text.matchAll(/^\t(\S+)/gm)].map((match) => match[1]).sort();
  assert.ok(names(loadedBy(process.execPath)).includes('libatomic.so.1'));
  assert.deepEqual(
    names(loadedBy(program)),
    names(loadedBy(process.execPath)).filter((name) => name !== 'libatomic.so.1'),
  );
});

test('the changed Node still works: symbols bound at once, threads, atomics, WebAssembly, regular expressions, signatures, SQLite', () => {
  const script = `
    const { Worker } = require('node:worker_threads');
    const crypto = require('node:crypto');
    const shared = new BigInt64Array(new SharedArrayBuffer(8));
    const source = \`
      const { workerData } = require('node:worker_threads');
      for (let round = 0; round < 20000; round++) {
        let seen = Atomics.load(workerData, 0);
        for (let now; (now = Atomics.compareExchange(workerData, 0, seen, seen + 1n)) !== seen; ) seen = now;
      }\`;
    const workers = [1, 2, 3, 4].map(() => new Worker(source, { eval: true, workerData: shared }));
    const wasm = new WebAssembly.Module(Buffer.from(
      '0061736d0100000001070160027f7f017f030201000707010361646400000a09010700200020016a0b', 'hex'));
    const add = new WebAssembly.Instance(wasm).exports.add;
    let sum = 0;
    for (let round = 0; round < 200000; round++) sum = add(sum, 3);
    const { publicKey, privateKey } = crypto.generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const signed = crypto.verify('sha256', 'x', publicKey, crypto.sign('sha256', 'x', privateKey));
    const words = 'virt trust '.repeat(1000).match(/(?<=t )\\\\p{L}+/gu).length;
    const { DatabaseSync } = require('node:sqlite');
    const row = new DatabaseSync(':memory:').prepare('select sum(value) as s from json_each(?)').get('[1,2]');
    Promise.all(workers.map((worker) => new Promise((done) => worker.once('exit', done)))).then((codes) =>
      console.log(JSON.stringify([codes, String(shared[0]), sum, signed, words, row.s])));`.replaceAll(
    '\\\\',
    '\\',
  );
  // LD_BIND_NOW: a function that nobody provides ends the program at once, not when it is first called.
  const env = { LD_BIND_NOW: '1', PATH: '/usr/bin:/bin' };
  const answer = execFileSync(program, ['-e', script], { env, encoding: 'utf8' });
  assert.deepEqual(JSON.parse(answer), [[0, 0, 0, 0], '80000', 600_000, true, 1999, 3]);
});

test('a program that does not need the library stays as it is, byte for byte', () => {
  const patched = readFileSync(program);
  removeLibatomic(patched);
  assert.ok(patched.equals(readFileSync(program)));
});

test('a file that is not a 64-bit little-endian ELF file is refused', () => {
  const head = original.subarray(0, 64);
  const not = [Buffer.from('#!/bin/sh\n'.padEnd(64)), Buffer.from(head), Buffer.from(head)];
  not[1]?.writeUInt8(1, 4);
  not[2]?.writeUInt8(2, 5);
  for (const bytes of not) assert.throws(() => removeLibatomic(bytes), /not a 64-bit little-endian ELF file/);
});

test('a machine, a function or a layout that it does not know is refused', () => {
  const name = original.indexOf('\0__atomic_compare_exchange\0') + 1;
  assert.ok(name > 0);
  const changes: [place: number, bytes: Buffer, message: RegExp][] = [
    [18, Buffer.from([0xf3, 0]), /no code for machine 243/],
    [name, Buffer.from('__atomic_compare_exchangf'), /used for __atomic_compare_exchangf too/],
    [endOfCode(), Buffer.alloc(64, 1), /no room for code/],
  ];
  for (const [place, bytes, message] of changes) {
    const changed = Buffer.from(original);
    bytes.copy(changed, place);
    assert.throws(() => removeLibatomic(changed), message);
  }
});

/** Where the executable segment ends in the file (ELF-64, program headers). */
function endOfCode(): number {
  const table = Number(original.readBigUInt64LE(32));
  for (let at = table; at < table + original.readUInt16LE(56) * 56; at += 56) {
    if (original.readUInt32LE(at) === 1 && (original.readUInt32LE(at + 4) & 1) !== 0)
      return Number(original.readBigUInt64LE(at + 8) + original.readBigUInt64LE(at + 32));
  }
  throw new Error('no executable segment');
}
