import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DAY, HOUR, instant } from '@virt-trust/base/instant.ts';
import { parseCrl } from '@virt-trust/pki/crl.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import { SqliteCrlStore } from '../store/crl-store.ts';
import { asked, revocationOn } from './fixtures.ts';
import { HOST_ENTRIES, hostForm } from './host-form.ts';
import type { ListedRevocation } from './revocation.ts';

test('the first CRL is empty, signed by the issuing CA, numbered and good for the set time', async (t) => {
  const { issuer, listed, clock } = await revocationOn(t);
  const crl = await issuer.ensure('control');
  assert.deepEqual(await listed(), []);
  assert.equal(crl.nextUpdate - crl.thisUpdate, 7 * DAY);
  assert.equal(await issuer.refreshAt(crl), crl.thisUpdate + 3.5 * DAY);
  assert.equal(parseCrl(crl.whole).extensions.crlNumber, BigInt(crl.number));
  assert.ok(crl.thisUpdate <= clock.now());
  assert.equal((await issuer.ensure('control')).number, crl.number);
});

test('RFC 5280 §5.2.3: numbers only grow, also on a clock that goes back and after a restart', async (t) => {
  const { issuer, newIssuer, clock, crls, database } = await revocationOn(t);
  const first = await issuer.ensure('control');
  const second = await issuer.ensure('control', 'anew');
  assert.ok(second.number > first.number);
  clock.advance(-DAY);
  const third = await newIssuer().ensure('control', 'anew');
  assert.ok(third.number > second.number);
  const [kept, held] = [new SqliteCrlStore(database, clock).find('control'), crls.find('control')];
  assert.equal(Buffer.compare(kept?.whole ?? Buffer.of(), held?.whole ?? Buffer.of(1)), 0);
  assert.throws(() => database.run('update crls set number = number where authority = ?', 'control'));
});

test('a CRL that could not be kept is never seen, and the next one is signed in its place', async (t) => {
  let broken = true;
  const { issuer, listed, revoking, issue } = await revocationOn(t, {
    wrap: (crls) => ({
      find: (name) => crls.find(name),
      knows: (name, number) => crls.knows(name, number),
      highest: (name) => crls.highest(name),
      deliveries: () => crls.deliveries(),
      deliveriesTo: (host) => crls.deliveriesTo(host),
      delivered: (entries) => crls.delivered(entries),
      keep: async (...kept) => {
        if (broken) throw new Error('killed');
        await crls.keep(...kept);
      },
    }),
  });
  const serial = await issue();
  await revoking.revoke(serial, asked());
  await assert.rejects(issuer.ensure('control'), /killed/);
  assert.equal(issuer.current('control'), null);
  broken = false;
  await issuer.ensure('control');
  assert.deepEqual(await listed(), [serial]);
});

test('what is revoked while a CRL is being signed is on the next, which those who wait share', async (t) => {
  const { issuer, revoking, issue, listed, crls } = await revocationOn(t);
  const serials = [await issue(), await issue(), await issue()];
  const signed = await Promise.all(
    serials.map(async (serial, index) => {
      await revoking.revoke(serial, asked({ origin: `job-${index}` }));
      return issuer.ensure('control');
    }),
  );
  for (const [index, crl] of signed.entries()) {
    const entries = [...parseCrl(crl.whole).entries].map(({ serialNumber }) => serialNumber);
    assert.ok(entries.includes(serials[index] as SerialNumber));
  }
  assert.deepEqual(new Set(await listed()), new Set(serials));
  assert.ok(crls.find('control'));
});

test('RFC 5280 §3.3: an entry goes once its certificate has ended, after one more CRL had it', async (t) => {
  const { issuer, revoking, issue, listed, clock, repository } = await revocationOn(t);
  const serial = await issue();
  await revoking.revoke(serial, asked());
  await issuer.ensure('control');
  clock.advance(180 * DAY + 2 * HOUR);
  await issuer.ensure('control', 'anew');
  assert.deepEqual(await listed(), [serial]);
  await issuer.ensure('control', 'anew');
  assert.deepEqual(await listed(), []);
  assert.equal(repository.statusOf(serial).kind, 'revoked');
});

test('the next number exceeds every one that was ever seen, also where nothing was revoked', async (t) => {
  const { issuer, database } = await revocationOn(t);
  const first = await issuer.ensure('control');
  assert.equal(issuer.isDue('control'), false);
  const seen = first.number + 1_000_000;
  database.run('insert into crl_numbers (authority, number) values (?, ?)', 'control', seen);
  assert.equal(issuer.isDue('control'), true);
  assert.ok((await issuer.ensure('control')).number > seen);
  assert.equal(issuer.isDue('control'), false);
});

function entry(sequence: number, reason: ListedRevocation['reason'], canary = false): ListedRevocation {
  return { sequence, serialNumber: `40${sequence}` as SerialNumber, at: instant(0), reason, canary };
}

test('of 1,500 revocations hosts get 1,000 at most: what nobody else has the key of is left out first, oldest first', () => {
  const listed = Array.from({ length: 1500 }, (_, index) =>
    index < 5
      ? entry(index, 'superseded', true)
      : entry(index, index % 3 === 0 ? 'cessationOfOperation' : 'keyCompromise'),
  );
  const canary = entry(1500, 'superseded', true);
  const all = [...listed, canary];
  const kept = hostForm(all, canary.serialNumber);
  assert.equal(kept.length, HOST_ENTRIES);
  assert.ok(kept.includes(canary));
  assert.ok(kept.every((one) => !one.canary || one === canary));
  const compromised = all.filter(({ reason }) => reason === 'keyCompromise');
  assert.equal(
    kept.filter(({ reason }) => reason === 'keyCompromise').length,
    Math.min(compromised.length, 999),
  );
  assert.deepEqual(
    kept.map(({ sequence }) => sequence),
    kept.map(({ sequence }) => sequence).toSorted((one, other) => one - other),
  );
  assert.equal(hostForm(all.slice(0, 1000), null).length, 1000);
});

test('with 1,500 revocations in the store the whole CRL has all, and that of hosts 1,000', async (t) => {
  const { issuer, revoking, repository, issue, database, listed } = await revocationOn(t);
  const model = await issue();
  database.transaction(() => {
    for (let index = 0; index < 1500; index++) {
      const serial = `41${String(index).padStart(32, '0')}`;
      database.run(
        `insert into certificates (serial_number, authority, profile, pin, issued_at, not_after, tbs)
          select ?, authority, profile, pin || ?, issued_at, not_after, tbs from certificates where serial_number = ?`,
        serial,
        index,
        model,
      );
    }
  });
  const serials = Array.from(
    { length: 1500 },
    (_, index) => `41${String(index).padStart(32, '0')}` as SerialNumber,
  );
  await repository.revoke({ ...asked({ reason: 'superseded' }), serials });
  await revoking.revoke(model, asked({ origin: 'job-2' }));
  const crl = await issuer.ensure('control');
  assert.deepEqual([crl.entries, crl.hostEntries], [1501, 1000]);
  assert.equal((await listed())?.length, 1501);
  const hosts = await listed('forHosts');
  assert.equal(hosts?.length, 1000);
  assert.ok(hosts?.includes(model));
});
