import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { issuanceOn, NO_CONSTRAINTS } from '../issuance/fixtures.ts';
import { temporaryStore } from '../store/fixtures.ts';
import { certifiableBy } from './certifiable-name.ts';

test('RFC 5280 §4.2.1.10: names and addresses within the constraints of the authorities may be certified, and no others.', async (t) => {
  const { database } = temporaryStore(t, systemClock);
  const constraints = { dns: ['rack1.example'], subnets: ['10.0.0.0/24', 'fd00::/64'] };
  const { authorities } = await issuanceOn(database, systemClock, { constraints });
  const names = ['rack1.example', 'kvm1.rack1.example', '10.0.0.7', 'fd00::7'];
  const others = [
    'kvm1',
    'kvm1.rack2.example',
    'xrack1.example',
    '10.0.1.7',
    'fd00:0:0:1::7',
    '::ffff:10.0.0.7',
  ];
  assert.deepEqual([...names, ...others].filter(certifiableBy(authorities)), names);
});

test('Authorities without constraints may certify any name.', async (t) => {
  const { database } = temporaryStore(t, systemClock);
  const { authorities } = await issuanceOn(database, systemClock, { constraints: NO_CONSTRAINTS });
  assert.deepEqual(['kvm1', '10.0.0.7', 'fd00::7'].map(certifiableBy(authorities)), [true, true, true]);
});
