import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testHost } from '../hosts/fixtures.ts';
import { renamed } from './rename.ts';

const HOST = testHost('kvm1', {
  word: { ...testHost('kvm1').word, dns: ['kvm1', 'kvm1.rack1.example', 'virt.example'] },
});
const NEIGHBOURS = {
  holderOf: (name: string) => (name === 'kvm2' ? 'kvm2' : null),
  managerNames: { dns: ['manager'], addresses: [] },
  mayCertify: (name: string) => name !== 'kvm1.elsewhere.example',
};

test('the new name takes the place of the old one in certificates; names given besides stay', () => {
  const after = renamed(HOST, 'KVM9', NEIGHBOURS);
  assert.equal(after.name, 'KVM9');
  assert.deepEqual(after.word.dns, ['kvm9', 'kvm1.rack1.example', 'virt.example']);
  assert.deepEqual({ ...after, name: 'kvm1', word: HOST.word }, HOST);
});

test("a name that is no DNS name is the host's here, and in no certificate", () => {
  assert.deepEqual(renamed(HOST, 'rack_1', NEIGHBOURS).word.dns, ['kvm1.rack1.example', 'virt.example']);
});

for (const [name, code] of [
  ['kvm2', 'host.name_conflict'],
  ['manager', 'interface.name_refused'],
  ['localhost', 'interface.name_refused'],
  ['kvm1.elsewhere.example', 'interface.name_refused'],
] as const) {
  test(`SECURITY: no host becomes ${name}`, () => {
    assert.throws(() => renamed(HOST, name, NEIGHBOURS), { code });
  });
}
