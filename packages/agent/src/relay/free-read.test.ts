import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { freeRead } from './free-read.ts';

describe('memory of reads that were written', () => {
  it('is gone at once where one read has all of it', () => {
    const read = new Uint8Array(65_536);
    freeRead(read);
    assert.equal(read.buffer.detached, true);
  });

  it('stays while another read of the same memory is not written', () => {
    const memory = new ArrayBuffer(65_536);
    const parts = [0, 16_384, 32_768, 49_152].map((at) => new Uint8Array(memory, at, 16_384).fill(7));
    const [last] = parts.splice(2, 1);
    assert.ok(last !== undefined);
    for (const part of parts) freeRead(part);
    assert.equal(memory.detached, false);
    assert.ok(last.every((octet) => octet === 7));
    freeRead(last);
    assert.equal(memory.detached, true);
  });

  it('stays where some of it belongs to nobody that is known', () => {
    const memory = new ArrayBuffer(65_536);
    freeRead(new Uint8Array(memory, 0, 65_535));
    assert.equal(memory.detached, false);
  });

  it('is left to V8 where it never fills, however much of it there is', () => {
    const before = process.memoryUsage().arrayBuffers;
    for (let at = 0; at < 2048; at++) freeRead(new Uint8Array(new ArrayBuffer(65_536), 0, 60_000));
    assert.ok(process.memoryUsage().arrayBuffers - before < 2 ** 25);
  });
});
