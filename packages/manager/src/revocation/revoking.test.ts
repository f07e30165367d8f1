import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { DAY } from '@virt-trust/base/instant.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import { declaredOn, testHost } from '../hosts/fixtures.ts';
import { requestPem } from '../issuance/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { asked, revocationOn } from './fixtures.ts';

const coded = (code: string) => (error: unknown) => isTrustError(error, code);

test('a certificate is revoked with its reason, in one unit of work with its entry in the audit log', async (t) => {
  const { revoking, repository, issue, audit, clock, changed } = await revocationOn(t);
  const serial = await issue();
  assert.deepEqual(repository.status('control', serial), { kind: 'good', authority: 'control' });
  await revoking.revoke(serial, { ...asked(), comment: 'stolen' });
  const status = repository.status('control', serial);
  assert.deepEqual(status, {
    kind: 'revoked',
    at: clock.now(),
    reason: 'keyCompromise',
    authority: 'control',
  });
  const entries = (await audit.list(0, 1000)).filter(({ action }) => action === 'certificate.revoke');
  assert.deepEqual(
    entries.map(({ actor, subject, outcome, detail }) => [actor, subject, outcome, detail]),
    [['token:admin', serial, 'done', 'keyCompromise: stolen']],
  );
  assert.equal(changed.length, 1);
});

test('a failure on the way leaves neither a revocation nor an entry in the audit log', async (t) => {
  const { revoking, repository, issue, audit, database } = await revocationOn(t);
  const serial = await issue();
  database.script("create trigger stop before insert on crl_changes begin select raise(abort, 'stop'); end");
  await assert.rejects(revoking.revoke(serial, asked()), coded('store.constraint'));
  assert.equal(repository.statusOf(serial).kind, 'good');
  assert.ok((await audit.list(0, 1000)).every(({ action }) => action !== 'certificate.revoke'));
});

test('the same order again changes nothing; another one is told when and why', async (t) => {
  const { revoking, repository, issue, audit } = await revocationOn(t);
  const serial = await issue();
  await revoking.revoke(serial, asked());
  const changes = repository.changes('control');
  await revoking.revoke(serial, asked());
  assert.equal(repository.changes('control'), changes);
  assert.equal((await audit.list(0, 1000)).filter(({ action }) => action === 'certificate.revoke').length, 1);
  for (const refused of [
    () => revoking.revoke(serial, asked({ origin: 'job-2' })),
    async () => revoking.check(serial, 'superseded'),
    async () => revoking.checkRelease(serial),
  ]) {
    await assert.rejects(refused, (error) => {
      assert.ok(isTrustError(error, 'certificate.revoked'));
      assert.match(error.message, /keyCompromise at 2027-01-15T08:00:00Z/);
      return true;
    });
  }
});

test('RFC 5280 §5.3.1: a hold is released, or becomes a revocation for good from the same time on', async (t) => {
  const { revoking, repository, issue, issuer, listed, clock } = await revocationOn(t);
  const [one, two] = [await issue(), await issue()];
  const since = clock.now();
  await revoking.revoke(one, asked({ reason: 'certificateHold' }));
  await revoking.revoke(two, asked({ reason: 'certificateHold', origin: 'job-2' }));
  await issuer.ensure('control');
  assert.deepEqual(await listed(), [one, two]);
  assert.throws(() => revoking.check(one, 'certificateHold'), coded('certificate.revoked'));
  clock.advance(DAY);
  revoking.check(one, 'keyCompromise');
  await revoking.revoke(one, asked({ origin: 'job-3' }));
  await revoking.release(two, 'token:admin');
  await issuer.ensure('control');
  assert.deepEqual(await listed(), [one]);
  assert.deepEqual(repository.statusOf(one), {
    kind: 'revoked',
    at: since,
    reason: 'keyCompromise',
    authority: 'control',
  });
  assert.equal(repository.statusOf(two).kind, 'good');
  assert.throws(() => revoking.checkRelease(two), coded('certificate.not_revoked'));
});

test('a serial number that nobody issued, or that is an authority’s own, is refused and says so', async (t) => {
  const { revoking, authorities } = await revocationOn(t);
  const nobody = '4100000000000000000000000000000001' as SerialNumber;
  assert.throws(() => revoking.check(nobody, 'keyCompromise'), coded('certificate.unknown'));
  await assert.rejects(revoking.revoke(nobody, asked()), coded('certificate.unknown'));
  for (const { issuing, root } of authorities.list()) {
    for (const { serialNumber } of [issuing, root]) {
      assert.throws(() => revoking.check(serialNumber, 'cACompromise'), coded('certificate.of_authority'));
    }
  }
});

test('what was recorded and never seen signed counts as issued', async (t) => {
  const { revoking, repository, issue, issuance, database, issuer, listed } = await revocationOn(t);
  const serial = await issue();
  await issuance.settled();
  database.run('update certificates set signature = null where serial_number = ?', serial);
  assert.equal(repository.status('control', serial).kind, 'good');
  await revoking.revoke(serial, asked());
  await issuer.ensure('control');
  assert.deepEqual(await listed(), [serial]);
});

test('a key whose certificate was revoked for its compromise is certified never again, one that was superseded is', async (t) => {
  const { revoking, issuance } = await revocationOn(t);
  const csr = await requestPem();
  const again = () => issuance.issueForHost({ host: 'kvm1', service: 'libvirt', csr, actor: 'test' });
  await revoking.revoke((await again()).serialNumber, asked({ reason: 'superseded' }));
  const { serialNumber } = await again();
  await revoking.revoke(serialNumber, asked({ origin: 'job-2' }));
  await assert.rejects(again(), coded('issuance.key_compromised'));
});

test('a host is revoked with every live certificate and those of its migrations, and gets no other until it is let', async (t) => {
  const { revoking, repository, issue, issuance, database, clock } = await revocationOn(t);
  const hosts = new SqliteHostRepository(database);
  const host = testHost('kvm1');
  await hosts.save(host);
  const old = await issue();
  clock.advance(181 * DAY);
  const [one, two] = [await issue(), await issue()];
  const clientCsr = () => requestPem({ commonName: 'virt-trust migration 7', names: [] });
  const client = async (heldBy: string) =>
    issuance.issueClient({
      csr: await clientCsr(),
      commonName: 'virt-trust migration 7',
      minutes: 10,
      heldBy,
      actor: 'test',
    });
  const [own, others] = [await client('kvm1'), await client('kvm2')];
  const revoked = await revoking.revokeHost(host, asked());
  assert.deepEqual(new Set(revoked), new Set([one, two, own.serialNumber]));
  assert.equal(repository.statusOf(old).kind, 'good');
  assert.equal(repository.statusOf(others.serialNumber).kind, 'good');
  assert.deepEqual(new Set(await revoking.revokeHost(host, asked())), new Set(revoked));
  const [party] = await repository.partyOf('job-1');
  assert.deepEqual(party?.addresses, ['192.0.2.11']);
  assert.ok(party?.subjects.includes('CN=kvm1,O=virt-trust'));
  assert.ok(party?.subjects.includes('O=virt-trust,CN=kvm1'));
  const marked = await hosts.find('kvm1');
  assert.equal(marked?.revoked?.reason, 'keyCompromise');
  assert.equal(marked?.state, 'failed');
  await assert.rejects(issue(), coded('issuance.host_revoked'));
  await assert.rejects(client('kvm1'), coded('issuance.host_revoked'));
  await revoking.lift('kvm1');
  assert.equal(repository.statusOf(await issue()).kind, 'good');
  assert.deepEqual(await repository.partyOf('job-1'), []);
});

test('revoking a host for good takes what was on hold along, so that nothing of it can be released', async (t) => {
  const { revoking, repository, issue, database } = await revocationOn(t);
  const host = testHost('kvm1');
  await new SqliteHostRepository(database).save(host);
  const [held, lost] = [await issue(), await issue()];
  await revoking.revoke(lost, asked({ reason: 'superseded', origin: 'job-0' }));
  assert.deepEqual(await revoking.revokeHost(host, asked({ reason: 'certificateHold' })), [held]);
  assert.deepEqual(
    await revoking.revokeHost(host, asked({ reason: 'certificateHold', origin: 'job-2' })),
    [],
  );
  assert.deepEqual(await revoking.revokeHost(host, asked({ origin: 'job-3' })), [held]);
  const reasonOf = (serial: SerialNumber) => {
    const status = repository.statusOf(serial);
    return status.kind === 'revoked' && status.reason;
  };
  assert.deepEqual([reasonOf(held), reasonOf(lost)], ['keyCompromise', 'superseded']);
  assert.throws(() => revoking.checkRelease(held), coded('certificate.revoked'));
});

test('certificates with a name or address that is the host’s no more are revoked, but those that were planned with it', async (t) => {
  const { revoking, repository, issue } = await revocationOn(t);
  const [one, other] = [await issue(), await issue()];
  const names = { dns: ['kvm1.example'], addresses: ['10.0.0.1', 'fd00::1'] };
  const same = testHost('kvm1', { declared: declaredOn('eth0', names) });
  const order = { actor: 'token:admin', origin: 'job-1' };
  const fewer = { ...names, addresses: ['10.0.0.1'] };
  const plannedWith = (planned: typeof names) => [{ service: 'libvirt' as const, names: planned }];
  assert.equal(await revoking.revokeEstranged(same, plannedWith(fewer), order), 0);
  const moved = testHost('kvm1', { declared: declaredOn('eth0', fewer) });
  // The address went while the host was being provisioned: the next job has another certificate proven first.
  assert.equal(await revoking.revokeEstranged(moved, plannedWith(names), order), 0);
  // SECURITY: whatever the host says that it serves, which is not asked.
  assert.equal(await revoking.revokeEstranged(moved, plannedWith(fewer), order), 2);
  for (const serial of [one, other]) {
    const status = repository.statusOf(serial);
    assert.equal(status.kind === 'revoked' && status.reason, 'affiliationChanged');
  }
});

test('a certificate is revoked for an address that is the host’s still and its service’s no more', async (t) => {
  const { revoking, repository, issue } = await revocationOn(t);
  const before = await issue();
  const on = (name: string, role: 'management' | 'display', dns: string[], addresses: string[]) => ({
    name,
    roles: [role],
    names: { dns, addresses },
  });
  const names = { dns: ['kvm1.example'], addresses: ['10.0.0.1', 'fd00::1'] };
  // All of it is declared, and libvirt is on management alone.
  const interfaces = [
    on('eth0', 'management', ['kvm1.example'], ['10.0.0.1']),
    on('eth1', 'display', [], ['fd00::1']),
  ];
  const host = testHost('kvm1', { declared: { interface: 'eth0', names, interfaces, refused: [] } });
  const planned = [{ service: 'libvirt' as const, names: interfaces[0]?.names ?? names }];
  assert.equal(await revoking.revokeEstranged(host, planned, { actor: 'system', origin: 'job-1' }), 1);
  assert.equal(repository.statusOf(before).kind, 'revoked');
});
