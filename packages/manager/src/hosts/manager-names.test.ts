import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import type { AdministratorWord } from './host.ts';
import { isOnManager, type ManagerNames, managerNames, managerNamesFor } from './manager-names.ts';

const NONE = { dns: [], addresses: [] };
const OTHER = '203.0.113.77';
const OWN = { dns: ['manager'], addresses: ['192.0.2.1', '2001:db8::1'] };
/** As the manager's own names are answered: none for who has one of its addresses. */
const own: ManagerNames = ({ names: { addresses } }) =>
  addresses.some((address) => OWN.addresses.includes(address)) ? NONE : OWN;
const names = managerNamesFor(own);
const isHere = (address: string) => isOnManager(own)({ address, port: 16515 });
const word = (more: Partial<AdministratorWord> = {}): AdministratorWord => ({
  dns: [],
  accepted: [],
  outside: NONE,
  interfaces: {},
  ...more,
});

test('whoever is added at the manager’s own address runs on its machine', () => {
  for (const address of [
    '127.0.0.1',
    '127.0.1.1',
    '::1',
    'localhost',
    '192.0.2.1',
    '2001:DB8::0:1',
    'MANAGER',
  ])
    assert.equal(isHere(address), true, address);
  for (const address of [OTHER, '1270.example', 'localhost.example', 'kvm1'])
    assert.equal(isHere(address), false, address);
  assert.deepEqual(names({ word: word({ onManager: true }) }), NONE);
});

test('SECURITY: everybody else does not, whatever it is called and wherever its channel goes now', () => {
  assert.deepEqual(names({ word: word({ dns: ['manager'] }) }), OWN);
  assert.deepEqual(names({ word: word({ dns: ['manager'], onManager: false }) }), OWN);
  // An address that was accepted of it, and is the manager's since.
  assert.deepEqual(names({ word: word({ accepted: ['192.0.2.1'], onManager: false }) }), OWN);
});

test('of a host that was added before that was written down, what was accepted of it tells', () => {
  assert.deepEqual(names({ word: word({ accepted: ['10.0.0.1', '192.0.2.1'] }) }), NONE);
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
