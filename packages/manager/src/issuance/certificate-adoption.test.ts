import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { MINUTE } from '@virt-trust/base/instant.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { decodePem, encodePem } from '@virt-trust/pki/pem.ts';
import type { Database } from '../store/database.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { CertificateAdoption } from './certificate-adoption.ts';
import { issuanceOn, KVM1, requestOfKvm2, requestPem } from './fixtures.ts';

const clock = settableClock();

/** The store from before, as a backup has it, beside the one that issuance went on with. */
async function beforeAndAfter(t: TestContext) {
  const after = temporaryStore(t, clock).database;
  const { issuance } = await issuanceOn(after, clock);
  const before = temporaryStore(t, clock).database;
  for (const row of after.all('select * from authorities')) {
    const names = Object.keys(row);
    before.run(
      `insert into authorities (${names.join()}) values (${names.map(() => '?').join()})`,
      ...(Object.values(row) as never[]),
    );
  }
  const restored = await issuanceOn(before, clock);
  return { ...restored, issuance, before, adoption: new CertificateAdoption({ ...restored, clock }) };
}

const actions = (database: Database) =>
  database
    .all("select action, outcome, subject, detail from audit where action = 'certificate.adopt'")
    .map((row) => ({ ...row }));

test('a certificate that a host serves and the restored store does not know is recorded as issued, and audited, once', async (t) => {
  const { issuance, before, adoption, certificates } = await beforeAndAfter(t);
  const { pem, serialNumber, pin, notAfter } = await issuance.issueForHost({
    host: 'kvm1',
    service: 'libvirt',
    csr: await requestPem(),
    actor: 'a',
  });
  const served = { host: KVM1, service: 'libvirt', pem } as const;
  assert.equal(await adoption.isKnown(serialNumber), false);
  assert.deepEqual(await adoption.adopt(served), { kind: 'adopted', serialNumber });
  assert.deepEqual(await adoption.adopt(served), { kind: 'known' });
  assert.equal(await adoption.isKnown(serialNumber), true);
  const record = await certificates.find(serialNumber);
  assert.ok(record);
  assert.deepEqual(record.holder, { kind: 'host', host: 'kvm1', service: 'libvirt' });
  assert.deepEqual(
    [record.pin, record.notAfter, record.state.kind, record.profile],
    [pin, notAfter, 'issued', 'libvirt-server'],
  );
  assert.equal(actions(before).length, 1);
});

test('SECURITY: a host has nothing recorded for itself that is not its own, whatever it says it serves', async (t) => {
  const { issuance, before, adoption, certificates } = await beforeAndAfter(t);
  const other = await issuance.issueForHost({
    host: 'kvm2',
    service: 'libvirt',
    csr: await requestOfKvm2(),
    actor: 'a',
  });
  const own = await issuance.issueForHost({
    host: 'kvm1',
    service: 'libvirt',
    csr: await requestPem(),
    actor: 'a',
  });
  const client = await issuance.issueClient({
    csr: await requestPem({ commonName: 'c', names: [] }),
    commonName: 'c',
    minutes: 5,
    actor: 'a',
  });
  const refuse = async (pem: string, service: 'libvirt' | 'migration' = 'libvirt') =>
    assert.equal((await adoption.adopt({ host: KVM1, service, pem })).kind, 'refused');
  await refuse(other.pem);
  await refuse(own.pem, 'migration');
  await refuse(client.pem);
  const [block] = decodePem(own.pem);
  assert.ok(block);
  const forged = Buffer.from(block.bytes);
  // The last byte of the signature.
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
  await refuse(encodePem('CERTIFICATE', forged));
  await refuse(encodePem('CERTIFICATE', forged));
  assert.deepEqual(await certificates.list({ before: null, host: null, limit: 10 }), []);
  const told = actions(before);
  assert.equal(told.length, 4, 'one entry for each certificate and service but not for each look');
  assert.ok(told.every((entry) => (entry as { outcome?: unknown }).outcome === 'refused'));
});

test('SECURITY: what a host makes up without end is noted only so often, and a certificate of its own is adopted still', async (t) => {
  const { issuance, before, adoption } = await beforeAndAfter(t);
  const request = { host: 'kvm1', service: 'libvirt', csr: await requestPem(), actor: 'a' } as const;
  const { pem, serialNumber } = await issuance.issueForHost(request);
  const [block] = decodePem(pem);
  assert.ok(block);
  const at = Buffer.from(block.bytes).indexOf(Buffer.from(serialNumber, 'hex'));
  assert.ok(at > 0);
  for (let made = 0; made < 100; made++) {
    const forged = Buffer.from(block.bytes);
    forged[at + 8] = (forged[at + 8] ?? 0) ^ (made + 1);
    await adoption.adopt({ host: KVM1, service: 'libvirt', pem: encodePem('CERTIFICATE', forged) });
  }
  assert.equal(actions(before).length, 64);
  assert.equal((await adoption.adopt({ host: KVM1, service: 'libvirt', pem })).kind, 'adopted');
});

test('a key that was certified for another host is not adopted with it, and a foreign certificate is left alone', async (t) => {
  const { issuance, before, adoption } = await beforeAndAfter(t);
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const { pem } = await issuance.issueForHost({
    host: 'kvm1',
    service: 'libvirt',
    csr: await requestPem({ key }),
    actor: 'a',
  });
  const mine = await issuanceOn(before, clock);
  await mine.issuance.issueForHost({
    host: 'kvm2',
    service: 'libvirt',
    csr: await requestOfKvm2(key),
    actor: 'a',
  });
  await mine.issuance.settled();
  assert.equal((await adoption.adopt({ host: KVM1, service: 'libvirt', pem })).kind, 'refused');
  const foreign = await issuanceOn(temporaryStore(t, clock).database, clock);
  const theirs = await foreign.issuance.issueForHost({
    host: 'kvm1',
    service: 'libvirt',
    csr: await requestPem(),
    actor: 'a',
  });
  assert.equal((await adoption.adopt({ host: KVM1, service: 'libvirt', pem: theirs.pem })).kind, 'foreign');
});

test('an adopted certificate counts as issued when it was, as far as can be told from it', async (t) => {
  const { issuance, adoption, certificates } = await beforeAndAfter(t);
  const issuedAt = clock.now();
  const { pem, serialNumber } = await issuance.issueForHost({
    host: 'kvm1',
    service: 'migration',
    csr: await requestPem(),
    actor: 'a',
  });
  clock.advance(10 * MINUTE);
  await adoption.adopt({ host: KVM1, service: 'migration', pem });
  assert.equal((await certificates.find(serialNumber))?.issuedAt, issuedAt);
});
