import assert from 'node:assert/strict';
import { mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { DAY, type Instant, instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { type Certificate, parseCertificates } from '@virt-trust/pki/certificate.ts';
import { keyMatchesCertificate, parsePrivateKeyPem } from '@virt-trust/pki/key.ts';
import { JournaledEngine } from '../apply/engine.ts';
import { Bell, manage } from '../apply/fixture-manager.ts';
import { desiredState, FileEffects, makeAuthority, makeHost, served } from '../apply/fixtures.ts';
import { barrierOf } from '../sets/barrier.ts';
import { agentPaths } from '../state/paths.ts';
import { guardHost } from './guard.ts';
import { passes } from './local-set.ts';
import { Rescuer } from './rescuer.ts';

/** A host that serves generation 1 of everything, certified for 90 days by an authority of a given lifetime. */
async function servingHost(t: TestContext, authorityDays = 3650) {
  const root = await mkdtemp(join(tmpdir(), 'virt-trust-rescue-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const paths = agentPaths(root);
  await makeHost(paths);
  const authority = await makeAuthority('Ours', authorityDays);
  const bell = new Bell();
  const events: string[] = [];
  const effects = new FileEffects(paths);
  const clock = { at: systemClock.now(), now: () => clock.at };
  const engine = () => {
    const made = new JournaledEngine({
      paths,
      effects,
      clock,
      log: silentLog,
      emit: async (kind, subject) => {
        events.push(`${kind} ${subject}`);
        bell.ring();
      },
      barrier: barrierOf(undefined),
      proofBoundMs: 60_000,
      mode: 'manage',
      checkIntervalMs: null,
    });
    t.after(() => made.stop());
    return made;
  };
  const first = engine();
  await first.start();
  await manage(first, bell, authority, desiredState(authority, 1));
  await first.stop();
  const after = (days: number) => {
    clock.at = instant(systemClock.now() + days * DAY);
  };
  const rescuer = new Rescuer(paths, clock);
  const link = (service: Service) => readlink(join(paths.services, service, 'current'));
  return { root, paths, authority, bell, events, effects, engine, clock, after, rescuer, link };
}

async function isUsable(
  paths: ReturnType<typeof agentPaths>,
  service: Service,
  at: Instant,
): Promise<boolean> {
  const { bundle = '', certificate = '', key = '' } = await served(paths, service);
  const certificates = parseCertificates(certificate);
  const [leaf] = certificates as [Certificate];
  return (
    keyMatchesCertificate(parsePrivateKeyPem(key), leaf) &&
    passes(service, { certificates, authorities: parseCertificates(bundle) }, at)
  );
}

test('nothing is touched while the time of every set is now', async (t) => {
  const { rescuer, link } = await servingHost(t);
  assert.deepEqual(await rescuer.run(), { made: [], ended: [], failed: [] });
  assert.equal(await link('vnc'), 'generations/1');
});

test('an expired certificate and authority of VNC are stood in for by a set that QEMU takes, for the same names', async (t) => {
  for (const authorityDays of [3650, 91]) {
    const { rescuer, link, paths, after, clock } = await servingHost(t, authorityDays);
    const before = await served(paths, 'vnc');
    after(92);
    assert.equal(await isUsable(paths, 'vnc', clock.now()), false);
    const { made, failed } = await rescuer.run();
    assert.deepEqual(failed, []);
    assert.deepEqual(
      made.map(({ service, reason }) => [service, reason]),
      [['vnc', 'its certificate has expired']],
    );
    assert.equal(await link('vnc'), 'generations/rescue-1');
    assert.equal(await isUsable(paths, 'vnc', clock.now()), true);
    const { certificate = '', 'dh-parameters': parameters } = await served(paths, 'vnc');
    const names = (text = '') => parseCertificates(text)[0]?.extensions.subjectAltName?.names;
    assert.deepEqual(names(certificate), names(before.certificate));
    assert.equal(parameters, before['dh-parameters']);
    // Readers that start with what they have go on with it: it is what clients know.
    for (const service of ['libvirt', 'migration', 'spice'] as const)
      assert.equal(await link(service), 'generations/1');
    assert.deepEqual(await rescuer.run(), { made: [], ended: [], failed: [] });
  }
});

test('libvirt is stood in for where its daemon would look at dates and not start', async (t) => {
  const { rescuer, link, paths, after, clock } = await servingHost(t);
  after(92);
  await writeFile(paths.at('/etc/libvirt/libvirtd.conf'), 'tls_no_sanity_certificate = 0\n');
  await rescuer.run();
  assert.equal(await link('libvirt'), 'generations/rescue-1');
  assert.equal(await isUsable(paths, 'libvirt', clock.now()), true);
});

test('an expired CA beside a good one is left out of what is read, and the certificate stays', async (t) => {
  const { rescuer, link, paths, clock, after } = await servingHost(t);
  const old = await makeAuthority('Old', 10);
  const path = join(paths.services, 'vnc/generations/1/ca-cert.pem');
  await writeFile(path, `${await readFile(path, 'utf8')}${old.pem}`);
  const { certificate } = await served(paths, 'vnc');
  after(11);
  assert.equal(await isUsable(paths, 'vnc', clock.now()), false);
  const { made } = await rescuer.run();
  assert.match(made[0]?.reason ?? '', /1 of 2 CA certificates/);
  assert.equal(await isUsable(paths, 'vnc', clock.now()), true);
  assert.equal((await served(paths, 'vnc')).certificate, certificate);
  // Later the certificate itself expires: another set takes the place of the first.
  after(92);
  await rescuer.run();
  assert.equal(await link('vnc'), 'generations/rescue-2');
  assert.equal(await isUsable(paths, 'vnc', clock.now()), true);
  assert.deepEqual((await readdir(join(paths.services, 'vnc/generations'))).sort(), ['0', '1', 'rescue-2']);
});

test('a clock that was lost destroys nothing: VMs start meanwhile, and all is as before when it is right again', async (t) => {
  for (const days of [-20_000, -9000, 40_000 - 21_000]) {
    const { rescuer, link, paths, clock, after } = await servingHost(t);
    const before = await served(paths, 'vnc');
    after(days);
    await rescuer.run();
    assert.equal(await link('vnc'), 'generations/rescue-1');
    assert.equal(await isUsable(paths, 'vnc', clock.now()), true);
    after(0);
    assert.deepEqual(await rescuer.run(), { made: [], ended: ['vnc'], failed: [] });
    assert.deepEqual(await served(paths, 'vnc'), before);
    assert.deepEqual((await readdir(join(paths.services, 'vnc/generations'))).sort(), ['0', '1']);
    assert.deepEqual(await rescuer.active(), []);
  }
});

test('the agent tells of a rescue, leaves it alone, and the next certificate takes its place and its key', async (t) => {
  const { rescuer, link, paths, authority, bell, events, engine, after } = await servingHost(t);
  after(92);
  await rescuer.run();
  const next = engine();
  await next.start();
  await next.idle();
  assert.ok(events.includes('rescue.made vnc'), events.join());
  assert.deepEqual(
    events.filter((event) => event.startsWith('repair')),
    [],
  );
  assert.equal(await link('vnc'), 'generations/rescue-1');
  const [rescue] = (await next.observedState()).rescues;
  assert.equal(rescue?.service, 'vnc');
  after(0);
  const renewed = await manage(next, bell, authority, desiredState(authority, 2, { revision: 2 }));
  assert.ok(renewed.credentials.every(({ phase }) => phase === 'settled'));
  assert.deepEqual(renewed.rescues, []);
  assert.equal(await link('vnc'), 'generations/2');
  assert.deepEqual((await readdir(join(paths.services, 'vnc/generations'))).sort(), ['0', '2']);
  await next.stop();
});

test('other settings are applied while a rescue is served, and the host gets its own back', async (t) => {
  const { rescuer, link, paths, authority, bell, engine, after } = await servingHost(t);
  after(92);
  await rescuer.run();
  const next = engine();
  await next.start();
  const desired = desiredState(authority, 2);
  const changed = { ...desired, settings: { ...desired.settings, migrateTls: 'force' as const } };
  const observed = await manage(next, bell, authority, changed);
  assert.equal(observed.failure, null);
  assert.equal(observed.number, 2);
  assert.equal(await link('vnc'), 'generations/rescue-1');
  await next.remove();
  assert.deepEqual((await readdir(paths.at('/etc'))).sort(), ['libvirt']);
  assert.deepEqual(await readdir(paths.state), ['agent', 'found']);
});

test('what cannot be written or read is said, and nothing throws', async (t) => {
  const { root, paths, after, rescuer } = await servingHost(t);
  await writeFile(join(paths.services, 'vnc/generations/1/server-cert.pem'), 'no certificate');
  after(92);
  const { made, failed } = await rescuer.run();
  assert.deepEqual(made, []);
  assert.match(failed.join(), /^vnc: /);
  const said: string[] = [];
  await writeFile(join(paths.agent, 'rescues.json'), '{');
  await guardHost((text) => said.push(text), root);
  assert.match(said.join(), /could not help vnc/);
  await guardHost((text) => said.push(text), join(root, 'nowhere'));
});
