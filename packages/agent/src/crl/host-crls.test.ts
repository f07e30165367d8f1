import assert from 'node:assert/strict';
import {
  chmod,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  rm,
  stat,
  symlink,
  unlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import type { CrlDelivery } from '@virt-trust/contract/model/crl.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { JournaledEngine } from '../apply/engine.ts';
import { Bell, manage } from '../apply/fixture-manager.ts';
import { desiredState, FileEffects, makeAuthority, makeHost, type TestAuthority } from '../apply/fixtures.ts';
import { barrierOf } from '../sets/barrier.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { crlOf, FileCrlEffects, readCrl, readLoaded } from './fixtures.ts';
import { HostCrls } from './host-crls.ts';

const SERVICES = ['libvirt', 'migration', 'vnc'] as const;

describe('The CRLs of a host', () => {
  let root: string;
  let paths: AgentPaths;
  let ours: TestAuthority;
  let found: TestAuthority;
  let effects: FileCrlEffects;
  let events: string[];
  const bell = new Bell();
  const open: (JournaledEngine | HostCrls)[] = [];

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'virt-trust-crls-'));
    paths = agentPaths(root);
    [ours, found] = await Promise.all([makeAuthority('Ours'), makeAuthority('Found')]);
    effects = new FileCrlEffects(paths);
    events = [];
  });
  afterEach(async () => {
    for (const one of open.splice(0)) await one.stop();
    await rm(root, { recursive: true, force: true });
  });

  const emit = async (kind: string, subject: string, message: string) => {
    events.push(`${kind} ${subject} ${message}`);
    bell.ring();
  };

  async function engineOf(failing: string[] = []): Promise<JournaledEngine> {
    const engine = new JournaledEngine({
      paths,
      effects: new FileEffects(paths, failing),
      clock: systemClock,
      log: silentLog,
      emit,
      barrier: barrierOf(undefined),
      proofBoundMs: 60_000,
      mode: 'manage',
      checkIntervalMs: null,
    });
    await engine.start();
    open.push(engine);
    return engine;
  }

  function crlsOf(options: { clock?: Clock; tickMs?: number; secondLookMs?: number } = {}): HostCrls {
    const crls = new HostCrls({
      paths,
      effects,
      clock: options.clock ?? systemClock,
      log: silentLog,
      emit,
      barrier: barrierOf(undefined),
      loadBoundMs: 5000,
      tickMs: options.tickMs ?? null,
      secondLookMs: options.secondLookMs ?? null,
    });
    open.push(crls);
    return crls;
  }

  const deliveries = (pem: string): CrlDelivery[] =>
    (['control', 'migration', 'console'] as const).map((purpose) => ({ purpose, crl: pem }));

  const change = (desired: DesiredState): Promise<void> =>
    engineOf().then(async (engine) => {
      const observed = await manage(engine, bell, ours, desired);
      assert.equal(observed.failure, null);
      assert.ok(observed.credentials.every(({ phase }) => phase === 'settled'));
      await engine.stop();
    });

  async function provisioned(): Promise<HostCrls> {
    await makeHost(paths);
    await change(desiredState(ours, 1));
    return crlsOf();
  }

  /** Puts a CRL of the CA that was found at the default places, as an administrator did, long ago. */
  async function putFound(text: string): Promise<Map<string, string>> {
    const at = new Map<string, string>();
    for (const path of [
      '/etc/pki/CA/cacrl.pem',
      '/etc/pki/libvirt-migrate/ca-crl.pem',
      '/etc/pki/libvirt-vnc/ca-crl.pem',
    ]) {
      await mkdir(dirname(paths.at(path)), { recursive: true });
      await writeFile(paths.at(path), text);
      await chmod(paths.at(path), 0o604);
      await utimes(paths.at(path), 1_500_000_000, 1_500_000_000);
      at.set(path, await sight(path));
    }
    return at;
  }

  async function sight(path: string): Promise<string> {
    const { mode, uid, gid, mtimeMs } = await lstat(paths.at(path));
    return [mode, uid, gid, mtimeMs, await readFile(paths.at(path), 'utf8')].join(' ');
  }

  it('are read where libvirt and QEMU look, by all, and loaded', async () => {
    const crls = await provisioned();
    const pem = crlOf(ours, 7, { serials: ['0badc0de'] });
    const { crls: installed } = await crls.put(deliveries(pem), []);
    assert.deepEqual(
      installed.map(({ purpose, number, entries, failure }) => [purpose, number, entries, failure]),
      [
        ['control', '7', 1, null],
        ['migration', '7', 1, null],
        ['console', '7', 1, null],
      ],
    );
    for (const service of SERVICES) {
      assert.equal(await readCrl(paths, service), pem);
      assert.equal(await readLoaded(paths, service), pem);
      assert.equal((await stat(join(paths.services, service, 'crl.pem'))).mode & 0o777, 0o644);
    }
    assert.equal(events.filter((event) => event.startsWith('crl.installed')).length, 3);
    const { crls: observed } = await (await engineOf()).observedState();
    assert.deepEqual(observed, installed);
    // As they came, for a manager that does not know them any more.
    assert.deepEqual(await crls.held(), deliveries(pem));
  });

  it('change nothing where one of them is refused, which is said', async () => {
    const crls = await provisioned();
    const first = crlOf(ours, 7);
    await crls.put(deliveries(first), []);
    const newer = crlOf(ours, 8);
    for (const [code, bad] of [
      ['crl.older', crlOf(ours, 6)],
      ['crl.issuer_unknown', crlOf(found, 9)],
      ['crl.signature', crlOf({ issuer: { ...ours.issuer, key: found.issuer.key } }, 9)],
      ['crl.twice', newer],
    ] as const) {
      const [control, migration] = deliveries(newer) as [CrlDelivery, CrlDelivery];
      const last = code === 'crl.twice' ? control : { ...migration, crl: bad };
      await assert.rejects(crls.put([control, last], []), { code });
      assert.match(events.at(-1) ?? '', new RegExp(`^crl.refused \\w+ ${code}`));
      for (const service of SERVICES) assert.equal(await readCrl(paths, service), first);
    }
  });

  it('are passed over for what the host does not serve', async () => {
    await makeHost(paths);
    const crls = crlsOf();
    assert.deepEqual(await crls.put(deliveries(crlOf(ours, 7)), []), { crls: [], disconnected: [] });
    assert.equal(await readCrl(paths, 'libvirt'), undefined);
  });

  it('wait for a service that has no generation yet, and are there when it gets one', async () => {
    await makeHost(paths);
    const engine = await engineOf();
    await engine.putDesiredState(desiredState(ours, 1));
    const pem = crlOf(ours, 7);
    const { crls: installed } = await crlsOf().put(deliveries(pem), []);
    assert.deepEqual(new Set(installed.map(({ failure }) => failure)), new Set([null]));
    assert.equal(await readLoaded(paths, 'libvirt'), '');
    await manage(engine, bell, ours, desiredState(ours, 1));
    for (const service of SERVICES) assert.equal(await readCrl(paths, service), pem);
  });

  it('stay the newest where a generation goes on, and where it goes back', async () => {
    const crls = await provisioned();
    const pem = crlOf(ours, 7);
    await crls.put(deliveries(pem), []);
    await change(desiredState(ours, 2, { revision: 2 }));
    for (const service of SERVICES) assert.equal(await readCrl(paths, service), pem);
    const engine = await engineOf(['prove-migration']);
    const back = await manage(engine, bell, ours, desiredState(ours, 3, { revision: 3 }));
    assert.ok(back.credentials.some(({ phase }) => phase === 'failed'));
    await engine.stop();
    const newer = crlOf(ours, 8);
    await crls.put(deliveries(newer), []);
    for (const service of SERVICES) assert.equal(await readCrl(paths, service), newer);
  });

  it('are honoured beside the one that was found while its CA is trusted, which is given back as it was', async () => {
    await makeHost(paths, found);
    // Without the last line end, and with words, as an administrator may leave it.
    const old = `revoked in spring\n${crlOf(found, 1, { serials: ['aa'] }).trimEnd()}`;
    const before = await putFound(old);
    await change(desiredState(ours, 1, { identity: 'found' }));
    const block = old.slice(old.indexOf('-----BEGIN'));
    for (const service of SERVICES) assert.equal(await readCrl(paths, service), `${block}\n`);
    const crls = crlsOf();
    const pem = crlOf(ours, 7);
    await crls.put(deliveries(pem), []);
    // Of two CRLs of one issuer GnuTLS obeys the last.
    for (const service of SERVICES) assert.equal(await readCrl(paths, service), `${block}\n${pem}`);
    await change(desiredState(ours, 2, { keepFoundTrust: true }));
    for (const service of SERVICES) assert.equal(await readCrl(paths, service), `${block}\n${pem}`);
    await change(desiredState(ours, 3));
    for (const service of SERVICES) assert.equal(await readCrl(paths, service), pem);
    await (await engineOf()).remove();
    for (const [path, was] of before) assert.equal(await sight(path), was);
    await assert.rejects(stat(join(paths.agent, 'crls.json')), { code: 'ENOENT' });
  });

  it('follow the setting of the one that was found, and leave its file alone', async () => {
    await makeHost(paths, found);
    const elsewhere = paths.at('/etc/pki/elsewhere.pem');
    const old = crlOf(found, 1);
    await writeFile(elsewhere, old);
    await writeFile(
      paths.at('/etc/libvirt/libvirtd.conf'),
      ['ca_file', 'cert_file', 'key_file', 'crl_file']
        .map((key, at) => {
          const path = [
            '/etc/pki/CA/cacert.pem',
            '/etc/pki/libvirt/servercert.pem',
            '/etc/pki/libvirt/private/serverkey.pem',
            '/etc/pki/elsewhere.pem',
          ][at];
          return `${key} = "${path}"\n`;
        })
        .join(''),
    );
    await change(desiredState(ours, 1, { keepFoundTrust: true }));
    assert.equal(await readCrl(paths, 'libvirt'), old);
    assert.equal(await readCrl(paths, 'vnc'), undefined);
    await (await engineOf()).remove();
    assert.equal(await readFile(elsewhere, 'utf8'), old);
    await assert.rejects(lstat(paths.at('/etc/pki/CA/cacrl.pem')), { code: 'ENOENT' });
  });

  it('leave out what was found where it would keep daemons from starting', async () => {
    for (const broken of ['', 'nothing', '-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n']) {
      await rm(root, { recursive: true, force: true });
      await mkdir(root);
      await makeHost(paths, found);
      await putFound(broken);
      await change(desiredState(ours, 1, { keepFoundTrust: true }));
      assert.equal(await readCrl(paths, 'libvirt'), undefined);
      assert.ok(events.some((event) => event.startsWith('apply.found_crl_left_out libvirt')));
    }
  });

  it('are repaired where somebody changed their file, its mode or a link to it', async () => {
    const crls = await provisioned();
    const pem = crlOf(ours, 7);
    await crls.put(deliveries(pem), []);
    const file = join(paths.services, 'libvirt/crl.pem');
    const within = join(paths.services, 'migration/current/ca-crl.pem');
    const outside = paths.at('/etc/pki/libvirt-vnc/ca-crl.pem');
    await writeFile(file, crlOf(found, 1));
    await unlink(within);
    await unlink(outside);
    await symlink('/dev/null', outside);
    await (await engineOf()).idle();
    for (const service of SERVICES) assert.equal(await readCrl(paths, service), pem);
    await chmod(file, 0o600);
    await (await engineOf()).idle();
    assert.equal((await stat(file)).mode & 0o777, 0o644);
    assert.equal(events.filter((event) => event.startsWith('repair.done')).length, 4);
  });

  it('wait for a daemon that restarts', async () => {
    const crls = await provisioned();
    effects.refusals = ['Connection refused', 'Connection refused'];
    const pem = crlOf(ours, 7);
    const { crls: installed } = await crls.put(deliveries(pem).slice(0, 1), []);
    assert.equal(installed[0]?.failure, null);
    assert.equal(await readLoaded(paths, 'libvirt'), pem);
  });

  it('are installed where the daemon is stopped, which the answer says, and loaded once it runs', async () => {
    await provisioned();
    const crls = crlsOf({ tickMs: 5 });
    crls.start();
    effects.isStopped = true;
    effects.refusals = new Array(4).fill('Connection refused');
    const pem = crlOf(ours, 7);
    const { crls: installed } = await crls.put(deliveries(pem).slice(0, 1), [
      { subjects: ['CN=a'], addresses: [] },
    ]);
    assert.match(
      installed[0]?.failure ?? '',
      /libvirt: the libvirt daemon is stopped; it loads the CRL when it starts/,
    );
    assert.equal(await readCrl(paths, 'libvirt'), pem);
    assert.match(events.at(-1) ?? '', /^crl.not_loaded control/);
    effects.isStopped = false;
    while (!events.some((event) => event.startsWith('crl.installed'))) await bell.next;
    assert.equal(await readLoaded(paths, 'libvirt'), pem);
    assert.equal((await (await engineOf()).observedState()).crls[0]?.failure, null);
  });

  it('stay the old, whole, where the new can not be written, which is said and tried again', async () => {
    const crls = await provisioned();
    const first = crlOf(ours, 7);
    await crls.put(deliveries(first), []);
    const obstacle = join(paths.services, 'libvirt/.crl.pem.virt-trust-new');
    await mkdir(obstacle);
    const second = crlOf(ours, 8);
    const { crls: installed } = await crls.put(deliveries(second), []);
    assert.notEqual(installed.find(({ purpose }) => purpose === 'control')?.failure, null);
    assert.equal(await readCrl(paths, 'libvirt'), first);
    assert.equal(await readCrl(paths, 'migration'), second);
    await rm(obstacle, { recursive: true });
    await assert.rejects(crls.put(deliveries(first), []), { code: 'crl.older' });
    const { crls: mended } = await crls.put(deliveries(second), []);
    assert.deepEqual(new Set(mended.map(({ failure }) => failure)), new Set([null]));
    assert.equal(await readLoaded(paths, 'libvirt'), second);
  });

  it('end the sessions of those whom they revoke, and of nobody else, once they are loaded', async () => {
    const crls = await provisioned();
    effects.open = [
      { id: '1', subject: 'O=Example,CN=good', address: '192.0.2.1' },
      { id: '2', subject: 'O=Example,CN=bad', address: '192.0.2.2' },
      { id: '3', subject: 'O=Example,CN=other', address: '192.0.2.3' },
      { id: '4', subject: undefined, address: undefined },
    ];
    const revoked = [{ subjects: ['O=Example,CN=bad'], addresses: ['192.0.2.3'] }];
    const { disconnected } = await crls.put(deliveries(crlOf(ours, 7)), revoked);
    assert.deepEqual(effects.cuts, ['2', '3']);
    assert.equal(disconnected.length, 2);
    assert.match(disconnected[0] ?? '', /O=Example,CN=bad from 192\.0\.2\.2/);
    assert.ok(events.filter((event) => event.startsWith('session.cut')).length === 2);
  });

  it('end a session whose handshake was under way when they came, and is so still', async () => {
    await provisioned();
    const crls = crlsOf({ secondLookMs: 1 });
    effects.open = [{ id: '4', subject: undefined, address: undefined }];
    await crls.put([], [{ subjects: ['O=Example,CN=bad'], addresses: [] }]);
    effects.open.push(
      { id: '5', subject: undefined, address: undefined },
      { id: '6', subject: 'O=Example,CN=bad', address: '192.0.2.2' },
    );
    while (effects.cuts.length < 2) await bell.next;
    assert.deepEqual(effects.cuts, ['6', '4']);
    // Where clients have no names, none tells a handshake that is under way.
    effects.names = false;
    await crls.put([], [{ subjects: ['O=Example,CN=bad'], addresses: [] }]);
    effects.open.push({ id: '7', subject: 'O=Example,CN=bad', address: '192.0.2.2' });
    while (effects.cuts.length < 3) await bell.next;
    assert.deepEqual(effects.cuts, ['6', '4', '7']);
  });

  it('are said to be due, and then stale, once each', async () => {
    await provisioned();
    let now = systemClock.now();
    const crls = crlsOf({ clock: { now: () => now }, tickMs: 1 });
    crls.start();
    await crls.put(deliveries(crlOf(ours, 7)).slice(0, 1), []);
    for (const kind of ['crl.due', 'crl.stale']) {
      now = instant(now + (kind === 'crl.due' ? 6.5 : 1) * DAY);
      while (!events.some((event) => event.startsWith(kind))) await bell.next;
    }
    const again = crlsOf({ clock: { now: () => now }, tickMs: 1 });
    again.start();
    await again.idle();
    await again.stop();
    assert.equal(events.filter((event) => /^crl\.(due|stale)/.test(event)).length, 2);
  });
});
