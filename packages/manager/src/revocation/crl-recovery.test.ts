import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { TrustError } from '@virt-trust/base/error.ts';
import { HOUR, MINUTE } from '@virt-trust/base/instant.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { EncodedCrlEntries } from '@virt-trust/pki/crl-issue.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import { CertificateAdoption } from '../issuance/certificate-adoption.ts';
import { KVM1, requestPem } from '../issuance/fixtures.ts';
import { SqliteCertificateStore } from '../store/certificate-store.ts';
import { backUp, fleetOf, restoreFrom, simulatedHosts } from './fixture-fleet.ts';
import type { SimulatedHost } from './fixture-hosts.ts';
import { asked } from './fixtures.ts';

type Fleet = Awaited<ReturnType<typeof fleetOf>>;

/** Three hosts; two certificates are revoked after the backup, of which the backup knows one. */
async function restored(
  t: TestContext,
  more: (before: Fleet, hosts: SimulatedHost[]) => Promise<void> = async () => {},
) {
  const hosts = simulatedHosts(['kvm1', 'host-2', 'host-3']);
  const before = await fleetOf(t, hosts);
  await before.upkeep.look();
  const known = await before.issue();
  const backup = backUp(t, before.database);
  before.clock.advance(HOUR);
  const { serialNumber: unknown, pem } = await before.issuance.issueForHost({
    host: 'kvm1',
    service: 'libvirt',
    csr: await requestPem(),
    actor: 'test',
  });
  await before.revoking.revoke(known, asked());
  await before.revoking.revoke(unknown, asked({ reason: 'superseded', origin: 'job-2' }));
  await before.enforcement.sign('if-needed');
  await before.enforcement.spread(before.signal);
  await more(before, hosts);
  const at = before.clock.now();
  before.clock.advance(HOUR);
  for (const host of hosts) {
    host.up = false;
    host.asked = 0;
  }
  const on = restoreFrom(t, backup, before.clock);
  const after = await fleetOf(t, hosts, on);
  return { before, after, on, hosts, known, unknown, pem, at };
}

const numberOf = (host: SimulatedHost) => Number.parseInt(host.held.get('control')?.number ?? '0', 16);
const comeUp = async (fleet: Fleet, host: SimulatedHost) => {
  host.up = true;
  await fleet.delivery.catchUp(host.host.name, fleet.signal);
};

test('what was revoked after the backup stays revoked: nothing is signed before all hosts were asked, then it is in the CRL', async (t) => {
  const { before, after, hosts, known, unknown } = await restored(t);
  const held = hosts.map(numberOf);
  const ofBackup = after.issuer.current('control')?.number ?? 0;
  assert.ok(held.every((number) => number > ofBackup));
  await after.upkeep.start();
  await after.upkeep.idle();
  await assert.rejects(after.issuer.ensure('control', 'anew'), { code: 'crl.held' });
  assert.equal(after.repository.statusOf(known).kind, 'good');
  const [one, two, three] = hosts;
  assert.ok(one && two && three);
  await comeUp(after, one);
  await comeUp(after, two);
  assert.equal(after.recovery.held, true);
  for (const serial of [known, unknown]) {
    const [then, now] = [before, after].map(({ repository }) => repository.statusOf(serial));
    assert.ok(then?.kind === 'revoked' && now?.kind === 'revoked');
    assert.equal(now.reason, then.reason);
    assert.equal(now.at, Math.floor(then.at / 1000) * 1000);
    assert.equal(now.authority, 'control');
  }
  // Nothing was brought to them meanwhile, and the one after the other was not even asked for its CRLs.
  assert.deepEqual(hosts.map(numberOf), held);
  assert.deepEqual([one.asked, two.asked], [1, 0]);
  await assert.rejects(after.issuer.ensure('control'), { code: 'crl.held' });
  await comeUp(after, three);
  await after.upkeep.idle();
  assert.equal(after.recovery.held, false);
  const listed = await after.listed();
  for (const serial of [known, unknown]) assert.ok(listed?.includes(serial));
  for (const host of hosts) {
    assert.equal(numberOf(host), after.issuer.current('control')?.number);
    assert.ok(numberOf(host) > (held[0] ?? 0));
  }
  const audit = await after.audit.list(0, 1000);
  const revoked = audit.filter(
    ({ action, subject }) => action === 'certificate.revoke' && subject === unknown,
  );
  assert.match(
    revoked[0]?.detail ?? '',
    /learnt from CRL number .* host kvm1 holds; the certificate itself is not known/,
  );
  assert.equal(audit.filter(({ action }) => action === 'crl.adopt').length, 1);
  assert.equal(audit.filter(({ action }) => action === 'crl.resume').length, 1);
});

test('one host of several is never enough; more than half are after ten minutes; a late one is asked before it gets any', async (t) => {
  let late: SerialNumber | undefined;
  const { after, on, hosts } = await restored(t, async (before, [one, two]) => {
    assert.ok(one && two);
    one.up = two.up = false;
    late = await before.issue();
    await before.revoking.revoke(late, asked({ origin: 'job-3' }));
    await before.enforcement.sign('if-needed');
    await before.enforcement.spread(before.signal);
  });
  const [one, two, three] = hosts;
  assert.ok(one && two && three && late !== undefined);
  await comeUp(after, one);
  after.clock.advance(11 * MINUTE);
  await after.upkeep.look();
  assert.equal(after.recovery.held, true);
  assert.ok(
    (await after.conditions()).some(({ kind, severity }) => kind === 'crl-held' && severity === 'critical'),
  );
  // What was heard, and that CRLs are held back, outlives the process.
  const again = await fleetOf(t, hosts, on);
  assert.equal(again.recovery.held, true);
  assert.equal(again.recovery.hasHeard(one.host.id), true);
  await comeUp(again, two);
  assert.equal(again.recovery.held, true);
  again.clock.advance(10 * MINUTE);
  await again.upkeep.look();
  await again.upkeep.idle();
  assert.equal(again.recovery.held, false);
  assert.deepEqual(await again.conditions().then((all) => all.filter(({ kind }) => kind === 'crl-held')), []);
  const signed = again.issuer.current('control')?.number ?? 0;
  assert.equal(numberOf(one), signed);
  assert.equal((await again.listed())?.includes(late), false);
  await comeUp(again, three);
  await again.upkeep.idle();
  assert.equal(again.repository.statusOf(late).kind, 'revoked');
  assert.ok((await again.listed())?.includes(late));
  for (const host of hosts) assert.equal(numberOf(host), again.issuer.current('control')?.number);
});

test('SECURITY: what a host says it holds and cannot show, or our authority did not sign, is not believed', async (t) => {
  const { after, hosts, known } = await restored(t);
  const [one, two, three] = hosts;
  assert.ok(one && two && three);
  const truth = one.held.get('control');
  assert.ok(truth);
  const lie = async (number: number, pem: string | null) => {
    one.held.set('control', { ...truth, number: number.toString(16) });
    if (pem === null) one.shown.delete('control');
    else one.shown.set('control', pem);
    one.up = true;
    await assert.rejects(after.learning.ask(one.host, after.signal), { code: 'crl.not_shown' });
    assert.equal((await after.delivery.deliver(one.host, [], after.signal)).kind, 'failed');
    assert.equal(after.recovery.hasHeard(one.host.id), false);
  };
  const number = Number.MAX_SAFE_INTEGER - 1;
  const fields = {
    number: BigInt(number),
    thisUpdate: truth.thisUpdate,
    nextUpdate: truth.nextUpdate,
  } as never;
  const [entry] = [
    { serialNumber: '0badc0de' as SerialNumber, revocationDate: after.clock.now(), reason: 'keyCompromise' },
  ] as const;
  const entries = EncodedCrlEntries.of([entry]);
  const other = await after.authorities
    .byPurpose('migration')
    .signCrl({ ...(fields as object), entries } as never);
  const forged = await after.authorities
    .byPurpose('control')
    .signCrl({ ...(fields as object), entries } as never);
  forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
  await lie(number, null);
  await lie(number, encodePem('X509 CRL', other));
  await lie(number, encodePem('X509 CRL', forged));
  await lie(number, encodePem('X509 CRL', Uint8Array.of(0x30, 0)));
  assert.equal(after.repository.statusOf('0badc0de' as SerialNumber).kind, 'unknown');
  const refused = (await after.audit.list(0, 1000)).filter(
    ({ action, outcome }) => action === 'crl.adopt' && outcome === 'refused',
  );
  assert.equal(refused.length, 1);
  // The others tell all the same, and no number was used up.
  await comeUp(after, two);
  await comeUp(after, three);
  assert.equal(after.repository.statusOf(known).kind, 'revoked');
  after.clock.advance(11 * MINUTE);
  await after.upkeep.look();
  assert.equal(after.recovery.held, false);
  assert.ok((after.issuer.current('control')?.number ?? 0) <= after.clock.now());
});

test('an order to revoke is not enforced by half: it asks who is up, and without most hosts it takes crl refresh', async (t) => {
  const { after, hosts, known } = await restored(t);
  const [one, two] = hosts;
  assert.ok(one && two);
  const mine = await after.issue();
  await after.revoking.revoke(mine, asked({ origin: 'job-9' }));
  one.up = true;
  await after.learning.recover(null, after.signal);
  await assert.rejects(after.enforcement.sign('if-needed'), { code: 'crl.held' });
  await after.learning.recover('token:admin', after.signal);
  await after.upkeep.idle();
  const listed = await after.listed();
  for (const serial of [known, mine]) assert.ok(listed?.includes(serial));
  assert.equal(numberOf(one), after.issuer.current('control')?.number);
  const [resumed] = (await after.audit.list(0, 1000)).filter(({ action }) => action === 'crl.resume');
  assert.equal(resumed?.actor, 'token:admin');
  assert.match(resumed?.detail ?? '', /when 1 of 3 hosts had been asked/);
});

test('SECURITY: a host that was revoked as a whole after the backup does not renew itself back', async (t) => {
  const { after, hosts, unknown } = await restored(t);
  const [one] = hosts;
  assert.ok(one);
  await comeUp(after, one);
  const host = await after.hosts.find('kvm1');
  assert.equal(host?.revoked?.reason, 'keyCompromise');
  await assert.rejects(after.issue(), { code: 'issuance.host_revoked' });
  await after.repository.lift('kvm1');
  await after.hosts.update(one.host.id, ({ revoked: _, ...rest }) => rest);
  assert.equal(after.repository.statusOf(unknown).kind, 'revoked');
});

test('SECURITY: nor does one that still serves a certificate of after the backup that was revoked', async (t) => {
  const { after, hosts, unknown, pem } = await restored(t, async () => {});
  const [, two] = hosts;
  assert.ok(two);
  await comeUp(after, two);
  await after.repository.lift('kvm1');
  await after.hosts.update(hosts[0]?.host.id ?? assert.fail(), ({ revoked: _, ...rest }) => rest);
  const adoption = new CertificateAdoption({
    authorities: after.authorities,
    certificates: new SqliteCertificateStore(after.database, after.clock),
    audit: after.audit,
    settings: after.settings,
    clock: after.clock,
  });
  assert.equal((await adoption.adopt({ host: KVM1, service: 'libvirt', pem })).kind, 'adopted');
  assert.equal((await after.hosts.find('kvm1'))?.revoked?.reason, 'superseded');
  assert.equal(after.repository.statusOf(unknown).kind, 'revoked');
  const [certificate] = parseCertificates(pem);
  const row = after.database.get('select not_after from revocations where serial_number = ?', unknown);
  assert.equal(row?.['not_after'], certificate?.notAfter);
});

test('SECURITY: a host that shows an old CRL again puts nothing back on hold that was released', async (t) => {
  const simulated = simulatedHosts(['kvm1', 'host-2']);
  const fleet = await fleetOf(t, simulated);
  const [one] = simulated;
  assert.ok(one);
  await fleet.upkeep.look();
  const serial = await fleet.issue();
  await fleet.revoking.revoke(serial, asked({ reason: 'certificateHold' }));
  await fleet.enforcement.sign('if-needed');
  await fleet.enforcement.spread(fleet.signal);
  const [then, shown] = [one.held.get('control'), one.shown.get('control')];
  assert.ok(then && shown);
  fleet.clock.advance(HOUR);
  await fleet.revoking.release(serial, 'test');
  await fleet.enforcement.sign('if-needed');
  for (const number of ['1', then.number, 'f'.repeat(39)]) {
    one.held.set('control', { ...then, number });
    one.shown.set('control', shown);
    one.refusal = () => Promise.reject(new TrustError('crl.older', 'conflict', 'an older one'));
    await fleet.delivery.deliver(one.host, [], fleet.signal);
    assert.equal(fleet.repository.statusOf(serial).kind, 'good', number);
  }
});

test('SECURITY: what a host makes up without end is noted only so often', async (t) => {
  const simulated = simulatedHosts(['kvm1', 'host-2']);
  const fleet = await fleetOf(t, simulated);
  const [one] = simulated;
  assert.ok(one);
  await fleet.upkeep.look();
  const held = one.held.get('control');
  assert.ok(held);
  for (let made = 0; made < 100; made++) {
    one.held.set('control', { ...held, number: `${made}${'f'.repeat(30)}` });
    await assert.rejects(fleet.learning.ask(one.host, fleet.signal), { code: 'crl.not_shown' });
  }
  const refused = (await fleet.audit.list(0, 1000)).filter(({ outcome }) => outcome === 'refused');
  assert.equal(refused.length, 64);
});
