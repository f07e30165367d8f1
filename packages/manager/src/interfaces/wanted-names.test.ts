import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseHostId } from '@virt-trust/base/host-id.ts';
import { WantedNames } from './wanted-names.ts';

const ONE = parseHostId('11111111-1111-4111-8111-111111111111');
const TWO = parseHostId('22222222-2222-4222-8222-222222222222');

test('who wants a name is found by it, each once', () => {
  const wanted = new WantedNames();
  wanted.replace(ONE, [], ['192.0.2.7', 'kvm7.example']);
  wanted.replace(TWO, [], ['192.0.2.7']);
  assert.deepEqual([...wanted.wantedBy(['192.0.2.7', 'kvm7.example'])], [ONE, TWO]);
  assert.deepEqual([...wanted.wantedBy(['192.0.2.8'])], []);
});

test('who wants a name no more is not found by it, and the others still are', () => {
  const wanted = new WantedNames();
  wanted.replace(ONE, [], ['192.0.2.7']);
  wanted.replace(TWO, [], ['192.0.2.7']);
  wanted.replace(ONE, ['192.0.2.7'], ['192.0.2.8']);
  assert.deepEqual([...wanted.wantedBy(['192.0.2.7'])], [TWO]);
  assert.deepEqual([...wanted.wantedBy(['192.0.2.8'])], [ONE]);
  wanted.replace(TWO, ['192.0.2.7'], []);
  assert.deepEqual([...wanted.wantedBy(['192.0.2.7'])], []);
});
