import assert from 'node:assert/strict';
import {
  lstat,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  unlink,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { prepareCertificate, prepareTemplate, signCertificate } from '@virt-trust/pki/certificate-issue.ts';
import { encodePrivateKeyPem, generatePrivateKey, spkiOfKey } from '@virt-trust/pki/key.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { leafProfile } from '@virt-trust/pki/profiles.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { barrierOf } from '../sets/barrier.ts';
import { agentPaths } from '../state/paths.ts';
import { JournaledEngine } from './engine.ts';
import { Bell, manage } from './fixture-manager.ts';
import {
  desiredState,
  FileEffects,
  issue,
  makeAuthority,
  makeHost,
  served,
  type TestAuthority,
} from './fixtures.ts';

/** What a host needs for disks of somebody else's NBD server: a certificate for clients alone, without names. */
async function clientFilesOf({ issuer, pem }: TestAuthority): Promise<Map<string, string>> {
  const key = await generatePrivateKey('ecdsa-p256-sha256');
  const now = Math.floor(Date.now() / 1000) * 1000;
  const prepared = prepareCertificate(prepareTemplate(issuer, leafProfile('libvirt-client')), {
    serialNumber: newSerialNumber(systemRandomness),
    commonName: 'disk client',
    names: [],
    notBefore: instant(now - DAY),
    notAfter: instant(now + DAY),
    publicKey: spkiOfKey(key),
  });
  return new Map([
    ['ca-cert.pem', pem],
    ['client-cert.pem', encodePem('CERTIFICATE', signCertificate(prepared, issuer))],
    ['client-key.pem', encodePrivateKeyPem(key)],
  ]);
}

describe('JournaledEngine', () => {
  let root: string;
  let ours: TestAuthority;
  let found: TestAuthority;
  const open: JournaledEngine[] = [];
  const bell = new Bell();

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'virt-trust-engine-'));
    [ours, found] = await Promise.all([makeAuthority('Ours'), makeAuthority('Found')]);
  });
  afterEach(async () => {
    for (const engine of open.splice(0)) await engine.stop();
    await rm(root, { recursive: true, force: true });
  });

  async function engineWith(
    options: {
      failing?: string[];
      vms?: FileEffects['vms'];
      mode?: 'observe' | 'manage';
      proofBoundMs?: number;
    } = {},
  ) {
    const paths = agentPaths(root);
    const effects = new FileEffects(paths, options.failing, options.vms);
    const events: string[] = [];
    const engine = new JournaledEngine({
      paths,
      effects,
      clock: systemClock,
      log: silentLog,
      emit: async (kind, subject) => {
        events.push(`${kind} ${subject}`);
        bell.ring();
      },
      barrier: barrierOf(undefined),
      proofBoundMs: options.proofBoundMs ?? 60_000,
      mode: options.mode ?? 'manage',
      checkIntervalMs: null,
    });
    await engine.start();
    open.push(engine);
    return { engine, effects, events, paths };
  }

  it('refuses an older desired state, takes the same again, and refuses another of the same number', async () => {
    const { engine, paths } = await engineWith();
    await makeHost(paths);
    await manage(engine, bell, ours, desiredState(ours, 5));
    await assert.rejects(engine.putDesiredState(desiredState(ours, 4)), (error) =>
      isTrustError(error, 'desired_state.stale'),
    );
    assert.equal((await engine.putDesiredState(desiredState(ours, 5))).busy, false);
    await assert.rejects(engine.putDesiredState(desiredState(ours, 5, { revision: 2 })), (error) =>
      isTrustError(error, 'desired_state.number_reused'),
    );
  });

  it('changes nothing on a host that is only observed', async () => {
    const { engine } = await engineWith({ mode: 'observe' });
    await assert.rejects(engine.putDesiredState(desiredState(ours, 1)), (error) =>
      isTrustError(error, 'agent.observes_only'),
    );
  });

  it('serves what was found with both CAs, then ours, then without the found CA, and never shows the key', async () => {
    const { engine, paths } = await engineWith();
    await makeHost(paths, found);
    const before = await served(paths, 'libvirt');
    const first = await manage(engine, bell, ours, desiredState(ours, 1, { identity: 'found' }));
    assert.ok(first.credentials.every(({ phase, identity }) => phase === 'settled' && identity === 'found'));
    const adopted = await served(paths, 'libvirt');
    assert.equal(adopted.certificate, before.certificate);
    assert.equal(parseCertificates(adopted.bundle ?? '').length, 2);
    await manage(engine, bell, ours, desiredState(ours, 2, { keepFoundTrust: true }));
    const switched = await served(paths, 'libvirt');
    assert.notEqual(switched.certificate, before.certificate);
    assert.equal(parseCertificates(switched.bundle ?? '').length, 2);
    const last = await manage(engine, bell, ours, desiredState(ours, 3));
    const retired = await served(paths, 'libvirt');
    assert.equal(retired.certificate, switched.certificate);
    assert.equal(parseCertificates(retired.bundle ?? '').length, 1);
    assert.doesNotMatch(JSON.stringify(last), /PRIVATE KEY/);
  });

  it('keeps keys from everybody but root and the QEMU user, and destroys those that are served no more', async () => {
    const { engine, paths } = await engineWith();
    await makeHost(paths);
    await manage(engine, bell, ours, desiredState(ours, 1));
    await manage(engine, bell, ours, desiredState(ours, 2, { revision: 2 }));
    const mode = async (path: string) => (await stat(paths.at(path))).mode & 0o777;
    assert.equal(await mode('/etc/pki/libvirt/private/serverkey.pem'), 0o600);
    assert.equal(await mode('/etc/pki/libvirt-migrate/server-key.pem'), 0o640);
    assert.deepEqual(await readdir(join(paths.services, 'vnc/generations')), ['0', '2']);
    assert.deepEqual(await readdir(join(paths.agent, 'generations/vnc')), ['2']);
  });

  it('goes on with the client files alone of disks over NBD until ours are to be served', async () => {
    const paths = agentPaths(root);
    await makeHost(paths);
    const files = await clientFilesOf(found);
    await mkdir(paths.at('/etc/pki/libvirt-nbd'), { recursive: true });
    for (const [name, text] of files) await writeFile(paths.at(`/etc/pki/libvirt-nbd/${name}`), text);
    const { engine } = await engineWith();
    await engine.start();
    const desired = desiredState(ours, 1);
    const credentials = desired.credentials.map((one) =>
      one.service === 'nbd' ? { ...one, identity: 'found' as const } : one,
    );
    const observed = await manage(engine, bell, ours, { ...desired, credentials });
    assert.deepEqual(
      observed.credentials.flatMap(({ service, identity, phase }) =>
        service === 'nbd' ? [identity, phase] : [],
      ),
      ['found', 'settled'],
    );
    const content = await served(paths, 'nbd');
    assert.equal(content['client-certificate'], files.get('client-cert.pem'));
    assert.equal(content['client-key'], files.get('client-key.pem'));
    assert.equal(content.bundle?.includes(found.pem.trim()), true);
    await manage(engine, bell, ours, desiredState(ours, 2));
    assert.notEqual((await served(paths, 'nbd'))['client-certificate'], files.get('client-cert.pem'));
    await engine.remove();
    for (const [name, text] of files)
      assert.equal(await readFile(paths.at(`/etc/pki/libvirt-nbd/${name}`), 'utf8'), text);
    assert.deepEqual((await readdir(paths.at('/etc/pki/libvirt-nbd'))).sort(), [...files.keys()].sort());
  });

  it('adds storage to a host that was taken over before it was known, and touches nothing else', async () => {
    const paths = agentPaths(root);
    await makeHost(paths);
    const { engine, effects } = await engineWith();
    await engine.start();
    const desired = desiredState(ours, 1);
    const isNew = ({ service }: { service: string }) => service === 'nbd' || service === 'backup';
    const before = { ...desired, credentials: desired.credentials.filter((one) => !isNew(one)) };
    const old = await manage(engine, bell, ours, before);
    await engine.stop();
    // As the version before kept it.
    const file = join(paths.found, 'manifest.json');
    const manifest = JSON.parse(await readFile(file, 'utf8'));
    for (const service of ['nbd', 'backup']) delete manifest.identities[service];
    manifest.paths = manifest.paths.filter(
      ({ path }: { path: string }) => !/libvirt-(nbd|backup)/.test(path),
    );
    await writeFile(file, JSON.stringify(manifest));
    const { engine: next, effects: after } = await engineWith();
    await next.start();
    const observed = await manage(next, bell, ours, desiredState(ours, 2));
    assert.deepEqual(
      observed.credentials.map(({ phase }) => phase),
      observed.credentials.map(() => 'settled'),
    );
    assert.equal(observed.credentials.length, SERVICES.length);
    for (const { service, pin } of old.credentials)
      assert.equal(observed.credentials.find((one) => one.service === service)?.pin, pin, service);
    assert.ok(effects.calls.includes('prove-vnc') && !after.calls.includes('prove-vnc'));
    await next.remove();
    await assert.rejects(stat(paths.at('/etc/pki/libvirt-nbd')), { code: 'ENOENT' });
  });

  it('goes back to the former generation and settings, with the reason, when a proof fails', async () => {
    const { engine, paths } = await engineWith();
    await makeHost(paths);
    await manage(engine, bell, ours, desiredState(ours, 1));
    const before = await served(paths, 'libvirt');
    await engine.stop();
    const { engine: next } = await engineWith({ failing: ['prove-migration'] });
    const wanted = desiredState(ours, 2, { revision: 2 });
    const forced = { ...wanted, settings: { ...wanted.settings, migrateTls: 'force' as const } };
    const observed = await manage(next, bell, ours, forced);
    assert.deepEqual([observed.settings?.migrateTls, observed.number], ['allow', 2], 'as before');
    const failures = observed.credentials.map(({ service, phase, failure }) => [
      service,
      phase,
      failure?.code,
    ]);
    assert.deepEqual(failures, [
      ['libvirt', 'failed', 'apply.went_back_along'],
      ['migration', 'failed', 'test.failed'],
      ['vnc', 'failed', 'apply.went_back_along'],
      ['spice', 'failed', 'apply.went_back_along'],
      ['nbd', 'failed', 'apply.went_back_along'],
      ['backup', 'failed', 'apply.went_back_along'],
    ]);
    assert.deepEqual(await served(paths, 'libvirt'), before);
    await next.stop();
    const { engine: last } = await engineWith();
    const mended = await manage(last, bell, ours, { ...forced, number: 3 });
    assert.equal(mended.settings?.migrateTls, 'force');
    assert.ok(mended.credentials.every(({ phase }) => phase === 'settled'));
  });

  for (const [title, word, code] of [
    ['refuses', 'refused', 'apply.proof_refused'],
    ['says nothing within the bound', 'silent', 'apply.proof_missing'],
  ] as const) {
    it(`goes back when the manager ${title}`, async () => {
      const { engine, paths } = await engineWith({ proofBoundMs: word === 'silent' ? 0 : 60_000 });
      await makeHost(paths, found);
      const before = await served(paths, 'libvirt');
      const observed = await manage(engine, bell, ours, desiredState(ours, 1), word);
      assert.equal(observed.credentials.find(({ service }) => service === 'libvirt')?.failure?.code, code);
      assert.deepEqual(await served(paths, 'libvirt'), before);
      assert.equal((await lstat(paths.at('/etc/pki/CA/cacert.pem'))).isFile(), true);
    });
  }

  it("applies settings alone, and takes what is new in them for nobody's disturbance", async () => {
    const { engine, paths, events } = await engineWith();
    await makeHost(paths);
    await manage(engine, bell, ours, desiredState(ours, 1));
    const desired = desiredState(ours, 2);
    const observed = await manage(engine, bell, ours, {
      ...desired,
      settings: { ...desired.settings, consoles: 'with-password' },
    });
    const libvirt = observed.credentials.find(({ service }) => service === 'libvirt');
    assert.deepEqual(
      libvirt?.proofs.filter(({ by }) => by === 'manager').map(({ servedPin }) => servedPin),
      [libvirt?.pin],
      'what the manager saw of this certificate counts still',
    );
    assert.match(await readFile(paths.at('/etc/libvirt/qemu.conf'), 'utf8'), /^vnc_listen = "::"$/m);
    assert.deepEqual(
      events.filter((event) => event.startsWith('repair.')),
      [],
    );
  });

  it('takes back a setting that a repair wrote after its application had failed', async () => {
    const { engine, paths } = await engineWith();
    await makeHost(paths);
    const path = paths.at('/etc/libvirt/qemu.conf');
    const before = await readFile(path, 'utf8');
    await manage(engine, bell, ours, desiredState(ours, 1));
    await engine.stop();
    const { engine: failing } = await engineWith({ failing: ['prove-libvirt'] });
    const wanted = desiredState(ours, 2);
    const forced = { ...wanted, settings: { ...wanted.settings, migrateTls: 'force' as const } };
    const failed = await manage(failing, bell, ours, forced);
    assert.ok(failed.failure !== null || failed.credentials.some(({ phase }) => phase === 'failed'));
    await failing.stop();
    const { engine: next } = await engineWith();
    await next.idle();
    assert.match(await readFile(path, 'utf8'), /^migrate_tls_force = 1$/m);
    await next.remove();
    assert.equal(await readFile(path, 'utf8'), before);
  });

  it('takes no certificate of another key or for other names', async () => {
    const { engine, paths } = await engineWith();
    await makeHost(paths);
    await engine.putDesiredState(desiredState(ours, 1));
    let rung = bell.next;
    while ((await engine.certificateRequests()).length < SERVICES.length) {
      await rung;
      rung = bell.next;
    }
    const other = issue(ours, { spki: spkiOfKey(await generatePrivateKey('ecdsa-p256-sha256')) });
    await assert.rejects(
      engine.putCertificates([{ service: 'vnc', generation: 1, certificate: other }]),
      (error) => isTrustError(error, 'certificate.unexpected'),
    );
    assert.equal((await engine.certificateRequests()).length, SERVICES.length);
  });

  it('repairs a link and a file twice, then leaves them alone with an event', async () => {
    const { engine, paths } = await engineWith();
    await makeHost(paths);
    await manage(engine, bell, ours, desiredState(ours, 1));
    await engine.stop();
    const link = paths.at('/etc/pki/CA/cacert.pem');
    for (let round = 0; round < 4; round++) {
      await unlink(link);
      await (round === 0 ? writeFile(link, 'theirs') : symlink('/elsewhere', link));
      const { engine: next, events } = await engineWith();
      await next.idle();
      assert.deepEqual(
        events,
        [
          ['repair.done /etc/pki/CA/cacert.pem'],
          ['repair.done /etc/pki/CA/cacert.pem'],
          ['repair.left_alone /etc/pki/CA/cacert.pem'],
          [],
        ][round],
      );
      const { pending } = await next.observedState();
      assert.equal(pending.length, round < 2 ? 0 : 1);
      await next.stop();
    }
    const [kept] = await readdir(join(paths.found, 'displaced'));
    assert.equal(await readFile(join(paths.found, 'displaced', kept ?? ''), 'utf8'), 'theirs');
  });

  it('keeps an edit of the administrator who replaced our link to the configuration by a file', async () => {
    const { engine, paths } = await engineWith();
    await makeHost(paths);
    await manage(engine, bell, ours, desiredState(ours, 1));
    await engine.stop();
    const path = paths.at('/etc/libvirt/qemu.conf');
    const text = `${await readFile(path, 'utf8')}max_files = 7\n`;
    await unlink(path);
    await writeFile(path, text);
    const { engine: next } = await engineWith();
    await next.idle();
    assert.equal(await readFile(join(paths.effectiveEtc, 'qemu.conf'), 'utf8'), text);
    const { left } = await next.remove();
    const restored = await readFile(path, 'utf8');
    assert.match(restored, /^# qemu\n#vnc_tls = 1\nuser = "qemu"\n(?:.*\n)*max_files = 7\n$/);
    assert.doesNotMatch(restored, /^[a-z0-9_]*tls/m);
    assert.equal(left.length, 1);
  });

  it('lists VMs whose VNC only a restart refreshes, and leaves on removal what running VMs hold', async () => {
    const vm = (name: string, tlsDirectory: string | null) => ({
      uuid: name,
      name,
      vnc: [{ listen: '127.0.0.1', port: 5900, tlsDirectory }],
      spice: [],
    });
    const vms = [
      vm('old', '/etc/pki/qemu'),
      vm('plain', null),
      vm('new', '/var/lib/virt-trust/services/vnc/current'),
    ];
    const { engine, paths } = await engineWith({ vms });
    await makeHost(paths);
    const { pending } = await manage(engine, bell, ours, desiredState(ours, 1));
    assert.deepEqual(
      pending.map(({ what }) => what),
      ['vnc of old', 'vnc of plain'],
    );
    const { left } = await engine.remove();
    assert.match(left.join(), /services\/vnc: stays .*\(new\)/);
    assert.equal(
      (await readFile(join(paths.services, 'vnc/current/server-cert.pem'), 'utf8')).length > 0,
      true,
    );
    assert.deepEqual((await readdir(paths.at('/etc'))).sort(), ['libvirt']);
  });
});
