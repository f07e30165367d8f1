import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { tableLines } from './table.ts';

test('a row is one line where there is room, or no terminal', () => {
  const rows = [['migration.mode', 'How VMs migrate, in order of preference']];
  const wide = ['NAME            WHAT', 'migration.mode  How VMs migrate, in order of preference'];
  assert.deepEqual(tableLines(['name', 'what'], rows), wide);
  assert.deepEqual(tableLines(['name', 'what'], rows, 55), wide);
});

test('on a narrower terminal the widest cells go on below, broken between words', () => {
  assert.deepEqual(
    tableLines(['name', 'what'], [['migration.mode', 'How VMs migrate, in order of preference']], 34),
    [
      'NAME            WHAT',
      'migration.mode  How VMs migrate,',
      '                in order of',
      '                preference',
    ],
  );
});

test('a list is broken after its commas', () => {
  assert.deepEqual(tableLines(['name', 'value'], [['mode', '["tls","pinned","plain"]']], 24), [
    'NAME  VALUE',
    'mode  ["tls","pinned",',
    '      "plain"]',
  ]);
});

test('where not even words fit side by side, each row is a list', () => {
  const id = '9311143d-3d2f-4fb0-9207-575cc0c53aea';
  const row = [id, 'failed', 'cannot migrate g1: host-b has no VM of that name'];
  assert.deepEqual(tableLines(['id', 'state', 'outcome'], [row], 40), [
    id,
    '  STATE    failed',
    '  OUTCOME  cannot migrate g1: host-b has',
    '           no VM of that name',
  ]);
});

test('whatever the cells, no word is lost, and no line is wider than the terminal where words fit at all', () => {
  const cell = fc.array(fc.stringMatching(/^[a-z]{1,9}$/), { maxLength: 8 }).map((words) => words.join(' '));
  fc.assert(
    fc.property(
      fc.array(fc.tuple(cell, cell, cell), { minLength: 1, maxLength: 5 }),
      fc.integer({ min: 29, max: 120 }),
      (rows, terminal) => {
        const lines = tableLines(['a', 'b', 'c'], rows, terminal);
        assert.ok(lines.every((line) => line.length <= terminal));
        const words = (texts: readonly string[]) => texts.flatMap((one) => one.match(/[a-z]+/g) ?? []).sort();
        assert.deepEqual(words(lines.slice(1)), words(rows.flat()));
      },
    ),
  );
});
