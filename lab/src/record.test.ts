import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import fc from 'fast-check';
import { checkName, parseRecord } from './record.ts';

const good = {
  format: 1,
  name: 'demo',
  index: 3,
  hosts: ['host-a', 'host-b'],
  networks: ['management'],
  root: '/var/cache/virt-trust/lab/0123',
  owner: 42,
};

test('a record that was written is read back', () => {
  const { format: _format, ...record } = good;
  assert.deepEqual(parseRecord(JSON.stringify(good), 'lab.json'), record);
  assert.equal(parseRecord(JSON.stringify({ ...good, owner: 'detached' }), 'lab.json').owner, 'detached');
});

test('a record that lacks something or holds something strange is refused by the name of its file', () => {
  const bad = [
    '',
    'null',
    '[]',
    JSON.stringify({ ...good, format: 2 }),
    JSON.stringify({ ...good, index: '3' }),
    JSON.stringify({ ...good, hosts: 'host-a' }),
    JSON.stringify({ ...good, networks: ['moon'] }),
    JSON.stringify({ ...good, owner: null }),
  ];
  for (const text of bad) {
    assert.throws(
      () => parseRecord(text, '/x/lab.json'),
      (error) => isTrustError(error, 'lab.record') && error.message.includes('/x/lab.json'),
    );
  }
});

test('a name that could climb out of its directory is refused, in a record too', () => {
  for (const name of [
    '',
    '.',
    '..',
    '../x',
    'a/b',
    'A',
    'a b',
    '-a',
    'a-',
    '9',
    'ssh',
    'a'.repeat(25),
    'a\n',
  ]) {
    assert.throws(
      () => checkName('host', name),
      (error) => isTrustError(error, 'lab.name'),
    );
  }
  assert.throws(
    () => parseRecord(JSON.stringify({ ...good, hosts: ['../../etc'] }), 'lab.json'),
    (error) => isTrustError(error, 'lab.name'),
  );
});

test('whatever a record file holds, reading it yields a record or an error of ours', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      try {
        parseRecord(text, 'lab.json');
      } catch (error) {
        assert.ok(isTrustError(error));
      }
    }),
  );
});
