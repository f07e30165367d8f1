import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { DAY, instant, MINUTE, NEVER } from '@virt-trust/base/instant.ts';
import { Time } from '@virt-trust/contract/model/primitives.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import { generatePrivateKey } from '@virt-trust/pki/key.ts';
import { declaredOn, settledState, testHost } from '../hosts/fixtures.ts';
import { issuanceOn, KVM1, requestPem } from '../issuance/fixtures.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { SqliteRenewalStore } from '../store/renewal-store.ts';
import { RenewalPlanner } from './planner.ts';

const HOST = { scope: 'host', target: 'kvm1' } as const;

/** Host kvm1 with a certificate for libvirt that was really issued. */
async function servedHost(
  t: TestContext,
  keyKind: Parameters<typeof generatePrivateKey>[0] = 'ecdsa-p256-sha256',
) {
  const clock = settableClock();
  const { database } = temporaryStore(t, clock);
  const issuing = await issuanceOn(database, clock);
  const hosts = new SqliteHostRepository(database);
  const store = new SqliteRenewalStore(database, clock);
  const names = KVM1.services.libvirt?.names ?? { dns: [], addresses: [] };
  const key = await generatePrivateKey(keyKind);
  const host = testHost('kvm1', { declared: declaredOn('eth0', names) });
  const csr = await requestPem({ key });
  const issued = await issuing.issuance.issueForHost({ host: 'kvm1', service: 'libvirt', csr, actor: 'a' });
  const serve = (serialNumber: string, service: Service = 'libvirt') =>
    settledState('ours', {
      credentials: settledState('ours')
        .credentials.filter((one) => one.service === service)
        .map((one) => ({ ...one, serialNumber, notAfter: issued.notAfter })),
    });
  await hosts.save({ ...host, observed: serve(issued.serialNumber) });
  const planner = new RenewalPlanner({ hosts, store, clock, ...issuing });
  return { ...issuing, clock, database, hosts, host, store, planner, issued, serve };
}

test('A certificate that would be made the same is renewed after half of its lifetime, counted from its issue.', async (t) => {
  const { planner, clock, issued, store } = await servedHost(t);
  const made = clock.now();
  const [plan] = await planner.refresh('kvm1');
  assert.deepEqual(plan?.differences, []);
  assert.ok(plan.at >= made + 90 * DAY - 1000 && plan.at <= made + 108 * DAY);
  assert.equal((await store.bySerial(issued.serialNumber))?.dueAt, plan.at);
  assert.equal((await planner.planOf(issued.serialNumber))?.at, plan.at);
  assert.equal(await planner.planOf('40ff'), null);
});

test('SECURITY: a host that says it serves the certificate of another is not renewed in its place.', async (t) => {
  const { planner, hosts, store, issued, serve } = await servedHost(t);
  await planner.refresh('kvm1');
  await hosts.save(testHost('a-liar2', { observed: serve(issued.serialNumber) }));
  await planner.refresh('a-liar2');
  assert.equal((await store.of('a-liar2'))[0]?.serialNumber, issued.serialNumber);
  assert.equal((await store.bySerial(issued.serialNumber))?.host, 'kvm1');
  await hosts.save(testHost('a-liar2', { observed: serve('40ff', 'vnc') }));
  await planner.refresh('a-liar2');
  assert.equal((await store.bySerial('40ff'))?.host, 'a-liar2');
});

test('SECURITY: whatever time a host says its certificate ends at, there is a plan.', async (t) => {
  const { planner, hosts, host, serve } = await servedHost(t);
  const inTime = validatorOf(Time);
  assert.throws(() => inTime(NEVER + 1, 'a time'));
  for (const notAfter of [-62_135_596_800_000, NEVER, 0].map((time) => inTime(time, 'a time'))) {
    const observed = serve('40ff');
    const credentials = observed.credentials.map((one) => ({ ...one, notAfter }));
    await hosts.save({ ...host, observed: { ...observed, credentials } });
    await planner.refresh('kvm1');
    assert.ok((await planner.planOf('40ff'))?.explanation.length);
  }
});

test('Another key algorithm, a shorter lifetime or other names make it due at once, and are said.', async (t) => {
  const { planner, settings, hosts, host, clock, store, issued, serve } = await servedHost(t);
  const differences = async () => (await planner.refresh('kvm1'))[0]?.differences;
  await settings.put('key.algorithm', 'rsa-3072', HOST, 'a');
  assert.deepEqual(await differences(), ['its key is to be rsa-3072 now, not ecdsa-p256-sha256']);
  assert.deepEqual(await store.dueHosts(clock.now(), 10), ['kvm1']);
  await settings.put('key.algorithm', null, HOST, 'a');
  assert.deepEqual(await differences(), []);
  assert.deepEqual(await store.dueHosts(clock.now(), 10), []);
  await settings.put('certificate.lifetime', '30d', HOST, 'a');
  assert.deepEqual(await differences(), ['its lifetime is 30 d now, not 180 d']);
  await settings.put('certificate.lifetime', '2y', HOST, 'a');
  assert.deepEqual(await differences(), [], 'a longer one is no reason to hurry');
  const names = { dns: ['kvm1.example', 'new.example'], addresses: ['10.0.0.1'] };
  await hosts.save({
    ...host,
    observed: serve(issued.serialNumber),
    declared: declaredOn('eth0', names),
  });
  assert.deepEqual(await differences(), [
    'it is to have the names DNS:new.example too now',
    'it is to have the names IP:fd00::1 no longer',
  ]);
});

test('A certificate of another service, with another profile and under another authority, is due at once.', async (t) => {
  const { planner, hosts, host, issued, serve } = await servedHost(t);
  await hosts.save({ ...host, observed: serve(issued.serialNumber, 'migration') });
  const [plan] = await planner.refresh('kvm1');
  assert.deepEqual(plan?.differences, [
    'its authority is migration now',
    'its profile is migration now, not libvirt-server',
  ]);
});

test('What the authority puts into certificates now, and did not then, is noticed.', async (t) => {
  const { planner, authorities } = await servedHost(t);
  const control = authorities.byPurpose('control');
  const other = authorities.byPurpose('console');
  t.mock.method(authorities, 'byPurpose', () => ({
    ...control,
    issuing: control.issuing,
    template: (profile: Parameters<typeof control.template>[0]) => ({
      ...control.template(profile),
      // Another key identifier: nothing else of the certificate differs.
      extensions: other.template(profile).extensions,
    }),
  }));
  const [plan] = await planner.refresh('kvm1');
  assert.deepEqual(plan?.differences, ['its profile or authority puts other things into it now']);
});

test('What is still different after a renewal does not make the next one due at once.', async (t) => {
  const { planner, settings, store } = await servedHost(t);
  await settings.put('key.algorithm', 'rsa-2048', HOST, 'a');
  const [before] = await planner.refresh('kvm1');
  await store.succeeded('kvm1', { libvirt: before?.differences.join('; ') ?? '' }, true);
  const [plan] = await planner.refresh('kvm1');
  assert.ok(plan !== undefined && plan.at > (before?.at ?? 0) + 80 * DAY);
  assert.match(plan.explanation.join('\n'), /renewed for this, and still so: its key is to be rsa-2048 now/);
});

test('A host that is only observed, is being removed, or serves what was found has nothing to renew.', async (t) => {
  const { planner, hosts, host, issued, serve, store } = await servedHost(t);
  const observed = serve(issued.serialNumber);
  await planner.refresh('kvm1');
  const found = {
    ...observed,
    credentials: observed.credentials.map((one) => ({ ...one, identity: 'found' as const })),
  };
  for (const change of [{ observeOnly: true }, { state: 'removing' as const }, { observed: found }]) {
    await hosts.save({ ...host, observed, ...change });
    assert.deepEqual(await planner.refresh('kvm1'), []);
    assert.deepEqual(await store.of('kvm1'), []);
  }
});

test('A certificate that is not recorded here is planned all the same, and that is said.', async (t) => {
  const { planner, hosts, host, serve, clock } = await servedHost(t);
  await hosts.save({ ...host, observed: serve('40aabb') });
  const [plan] = await planner.refresh('kvm1');
  assert.ok(plan !== undefined && plan.at > clock.now());
  assert.match(plan.explanation.join('\n'), /not among the certificates recorded here/);
});

test('Lifetimes down to five minutes hold, and the authority’s end bounds them.', async (t) => {
  const { settings, issuance, clock, authorities } = await servedHost(t);
  const issue = async () =>
    issuance.issueForHost({ host: 'kvm1', service: 'libvirt', csr: await requestPem(), actor: 'a' });
  await settings.put('certificate.lifetime', '5m', HOST, 'a');
  assert.equal((await issue()).notAfter, clock.now() + 5 * MINUTE);
  await settings.put('certificate.lifetime', '3650d', HOST, 'a');
  const { notAfter } = authorities.byPurpose('control').issuing;
  clock.advance(notAfter - clock.now() - 10 * DAY);
  assert.equal((await issue()).notAfter, instant(notAfter));
});
