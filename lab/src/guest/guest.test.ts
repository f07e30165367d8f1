import assert from 'node:assert/strict';
import { test } from 'node:test';
import { guestXml, parseGuestWords, wroteOn } from './guest.ts';

test('what a guest says is read line by line; a line that has not ended does not count', () => {
  const words = parseGuestWords('hello\nfilled\nbeat 00000014\nintact\nbeat 0000002');
  assert.deepEqual(words, { hellos: 1, filled: true, ticks: [20], intact: 1, damaged: false });
  assert.deepEqual(parseGuestWords('damaged\n'), {
    hellos: 0,
    filled: false,
    ticks: [],
    intact: 0,
    damaged: true,
  });
});

test('a disk is whole where its sectors hold the last ticks, each in its place', () => {
  const rest = '';
  assert.ok(wroteOn({ ticks: [8, 9, 6, 7], rest }));
  assert.ok(wroteOn({ ticks: [0, 1, 2, 0], rest }));
  assert.ok(!wroteOn({ ticks: [8, 9, 2, 7], rest }));
});

test('a guest without a disk boots from a floppy that is only read', () => {
  const xml = guestXml({ name: 'g', memoryMiB: 64, dirtyMiBPerSecond: 0 });
  assert.match(xml, /device='floppy'.*<readonly\/>/);
  assert.match(
    guestXml({ name: 'g', memoryMiB: 64, dirtyMiBPerSecond: 0, disk: { format: 'qcow2', sizeMiB: 8 } }),
    /dev='hda'/,
  );
});
