import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import type { AdministratorWord } from './host.ts';
import { managerNames, managerNamesFor } from './manager-names.ts';

const NONE = { dns: [], addresses: [] };
const OTHER = '203.0.113.77';
const OWN = { dns: ['manager'], addresses: ['192.0.2.1', '2001:db8::1'] };
/** As the manager's own names are answered: none for who has one of its addresses. */
const names = managerNamesFor(({ names: { addresses } }) =>
  addresses.some((address) => OWN.addresses.includes(address)) ? NONE : OWN,
);
const word = (more: Partial<AdministratorWord> = {}): AdministratorWord => ({
  dns: [],
  accepted: [],
  outside: NONE,
  interfaces: {},
  ...more,
});
const at = (address: string) => ({ address, port: 16515 });

test('whoever is reached at the manager’s own address, or has had it accepted, runs on its machine', () => {
  for (const address of ['127.0.0.1', '127.0.1.1', '::1', 'localhost', '192.0.2.1', '2001:db8::1', 'MANAGER'])
    assert.deepEqual(names({ channel: at(address), word: word() }), NONE, address);
  const accepted = word({ accepted: ['10.0.0.1', '192.0.2.1'] });
  assert.deepEqual(names({ channel: at(OTHER), word: accepted }), NONE);
});

test('SECURITY: everybody else does not, whatever it is called', () => {
  for (const address of [OTHER, '1270.example', 'localhost.example', 'kvm1'])
    assert.deepEqual(names({ channel: at(address), word: word() }), OWN, address);
  assert.deepEqual(names({ channel: at(OTHER), word: word({ dns: ['manager'] }) }), OWN);
});

test('the manager’s own addresses are those of the machine’s kernel', () => {
  const { addresses } = managerNames(systemClock)({ names: { dns: [], addresses: [OTHER] } });
  const kernel = Object.values(networkInterfaces()).flatMap((all) => all ?? []);
  for (const one of addresses)
    assert.ok(
      kernel.some(({ address }) => address.startsWith(one)),
      one,
    );
});
