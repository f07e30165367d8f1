import assert from 'node:assert/strict';
import { mkdir, rename, rm, utimes, writeFile } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import fc from 'fast-check';
import { makeAuthority, makeHost } from '../apply/fixtures.ts';
import { temporaryRoot } from '../fixtures.ts';
import { agentPaths } from '../state/paths.ts';
import { HostCapabilityWatch } from './capability-watch.ts';
import { listenerOn, parseListeners } from './listeners.ts';

const SOCKET = 'u_str LISTEN 0 4096 /run/libvirt/libvirt-sock 12 * 0';
const TLS = ['tcp LISTEN 0 4096 *:16514 *:*', 'tcp   LISTEN 0 4096 [::]:16514 [::]:*'];
const TCP = 'tcp LISTEN 0      30   192.0.2.11:16509 0.0.0.0:*';
const VERSION = 'Running hypervisor: QEMU 7.2.22\nRunning against daemon: 9.0.0\n';

/** A host with libvirt and, where wanted, certificates for migrations, that is as the test says. */
async function hostOf(t: TestContext, options: { found?: boolean; mode?: 'manage' | 'observe' } = {}) {
  const paths = agentPaths(await temporaryRoot(t));
  await makeHost(paths, options.found === false ? undefined : await makeAuthority('Found CA'));
  await mkdir(paths.at('/run'), { recursive: true });
  const host = {
    paths,
    sockets: [SOCKET, ...TLS],
    answers: true,
    /** What every program takes. */
    takes: async () => {},
    unreadable: new Set<string>(),
    underWay: false,
    now: instant(Date.now()),
    asked: [] as string[],
    events: [] as string[],
    config: (text: string) => writeFile(paths.at('/etc/libvirt/qemu.conf'), text),
    /** The daemon as it was started now. */
    started: () => writeFile(paths.at('/run/libvirtd.pid'), `${process.pid}\n`),
  };
  const clock: Clock = { now: () => host.now };
  const run: RunHostCommand = async (program) => {
    host.asked.push(program);
    await host.takes();
    if (program === 'virsh' && !host.answers)
      throw new TrustError('command.failed', 'failed', 'cannot run virsh: it hangs');
    const stdout = program === 'ss' ? host.sockets.join('\n') : VERSION;
    return { code: 0, stdout, stderr: '' };
  };
  const watch = new HostCapabilityWatch({
    paths,
    mode: options.mode ?? 'manage',
    run,
    clock,
    log: silentLog,
    daemonMode: async () => 'monolithic',
    peer: { peerPort: 16518, peerVersions: [1] },
    reloadWaits: () => [],
    isUnderWay: () => host.underWay,
    readableForQemu: async (files) => new Set(files.filter((file) => !host.unreadable.has(file))),
    record: async (kind, subject, message) => void host.events.push(`${kind} ${subject} ${message}`),
  });
  t.after(() => watch.stop());
  return {
    ...host,
    host,
    watch,
    /** Looks until nothing more is due. */
    report: async () => {
      await watch.look();
      await watch.look();
      return validatorOf(HostCapabilities)(watch.report(), 'capabilities');
    },
  };
}

test('a host that was not looked at yet reports nothing', async (t) => {
  const { watch } = await hostOf(t);
  assert.equal(watch.report(), null);
});

test('what a host can do is what its sockets, files and daemon say', async (t) => {
  const { report, host } = await hostOf(t);
  host.sockets = [SOCKET, ...TLS, TCP];
  assert.deepEqual(
    { ...(await report()), at: 0 },
    testCapabilities({
      libvirtTls: { addresses: ['*', '::'], port: 16514 },
      libvirtTcp: { addresses: ['192.0.2.11'], port: 16509, authentication: 'sasl' },
    }),
  );
});

test('what is configured and not there counts as not there', async (t) => {
  const { report, host, paths } = await hostOf(t, { found: false });
  await writeFile(paths.at('/etc/libvirt/libvirtd.conf'), 'listen_tls = 1\nlisten_tcp = 1\n');
  host.sockets = [SOCKET];
  const seen = await report();
  assert.equal(seen.libvirtTls, null);
  assert.equal(seen.libvirtTcp, null);
  assert.equal(seen.nativeTls, false);
  assert.match(seen.nativeTlsLacks, /there is no CA file.*\/etc\/pki\/qemu/);
});

test('a file that the QEMU user may not read, is not there or does not belong is no native TLS, and is said', async (t) => {
  const { report, host, paths } = await hostOf(t);
  const key = paths.at('/etc/pki/libvirt-migrate/server-key.pem');
  host.unreadable.add(key);
  const chmod = async () => await utimes(key, 1, 1);
  await chmod();
  assert.match((await report()).nativeTlsLacks, /key.*the QEMU user may not/);
  host.unreadable.clear();
  await utimes(key, 2, 2);
  assert.equal((await report()).nativeTls, true);
  await rename(key, `${key}.away`);
  assert.match((await report()).nativeTlsLacks, /there is no key file/);
  await writeFile(key, 'no key');
  assert.match((await report()).nativeTlsLacks, /the key cannot be used/);
  await rename(`${key}.away`, key);
  assert.equal((await report()).nativeTls, true);
  await rm(paths.at('/etc/pki/libvirt-migrate/client-cert.pem'));
  assert.match((await report()).nativeTlsLacks, /without its certificate|no client certificate/);
});

test('certificates end with time, without that anything of the host changes', async (t) => {
  const { report, host } = await hostOf(t);
  assert.equal((await report()).nativeTls, true);
  host.now = instant(host.now + 91 * DAY);
  assert.match((await report()).nativeTlsLacks, /expired/);
});

test('a host that is only observed, or whose libvirt does not answer, takes no part in mode pinned', async (t) => {
  const observed = await hostOf(t, { mode: 'observe' });
  assert.equal((await observed.report()).pinned, false);
  const silent = await hostOf(t);
  silent.host.answers = false;
  assert.equal((await silent.report()).pinned, false);
  const closed = await hostOf(t);
  closed.host.sockets = [...TLS];
  assert.equal((await closed.report()).pinned, false);
});

test('qemu.conf counts as it was when the daemon started', async (t) => {
  const { report, started, config, watch } = await hostOf(t);
  await started();
  assert.equal((await report()).migrateTlsForce, false);
  await config('migrate_tls_force = 1\n');
  await watch.changed();
  assert.equal((await report()).migrateTlsForce, false, 'not read by the daemon that runs');
  await started();
  assert.equal((await report()).migrateTlsForce, true, 'read by the one that was started since');
});

test('a change is told once, with what there is now; a look without one costs one small program', async (t) => {
  const { report, host } = await hostOf(t);
  const first = await report();
  assert.deepEqual(host.events, [
    'capabilities.changed host libvirt with TLS on * :: port 16514, QEMU with TLS on, plain TCP off, migrate_tls_force off, pinned yes, libvirt 9.0.0, QEMU 7.2.22',
  ]);
  host.asked.length = 0;
  host.now = instant(host.now + 1000);
  assert.deepEqual(await report(), first, 'since when it is so');
  assert.deepEqual(host.asked, ['ss', 'ss'], 'two looks');
  host.sockets = [SOCKET, TCP];
  await report();
  assert.match(host.events[1] ?? '', /^capabilities.changed host libvirt with TLS off, .*plain TCP on/);
  assert.equal(host.events.length, 2);
});

test('a daemon that does not run is not started by being asked; one that was started since is asked anew', async (t) => {
  const { report, host, started } = await hostOf(t);
  await report();
  host.asked.length = 0;
  host.sockets = [SOCKET];
  assert.deepEqual([(await report()).pinned, host.asked.includes('virsh')], [true, false]);
  await started();
  host.answers = false;
  assert.deepEqual([(await report()).pinned, host.asked.includes('virsh')], [false, true]);
});

test('while the daemon is being restarted nobody asks it anything, but whoever restarted it', async (t) => {
  const { report, host, watch } = await hostOf(t);
  await report();
  host.asked.length = 0;
  host.underWay = true;
  host.sockets = [SOCKET];
  assert.notEqual((await report()).libvirtTls, null);
  assert.deepEqual(host.asked, []);
  await watch.changed();
  assert.equal(watch.report()?.libvirtTls, null);
});

test('whoever waits for the end of an application finds what a look says that took long', async (t) => {
  const { report, host, watch } = await hostOf(t);
  await report();
  host.sockets = [SOCKET];
  const asked = Promise.withResolvers<void>();
  const taken = Promise.withResolvers<void>();
  host.takes = () => {
    asked.resolve();
    return taken.promise;
  };
  t.mock.timers.enable({ apis: ['setTimeout'] });
  let isOver = false;
  const changed = watch.changed().then(() => {
    isOver = true;
  });
  await asked.promise;
  t.mock.timers.tick(20_000);
  await setImmediate();
  assert.equal(isOver, false);
  taken.resolve();
  await changed;
  assert.equal(watch.report()?.libvirtTls, null);
});

test('a look that fails leaves the report as it was, and the next one makes it good', async (t) => {
  const { report, host } = await hostOf(t);
  await report();
  const sockets = host.sockets;
  Object.defineProperty(host, 'sockets', {
    configurable: true,
    get: () => {
      throw new TrustError('command.missing', 'not-found', 'cannot run ss');
    },
  });
  assert.notEqual((await report()).libvirtTls, null);
  Object.defineProperty(host, 'sockets', { value: sockets.slice(0, 1) });
  assert.equal((await report()).libvirtTls, null);
});

test('whatever ss prints, listeners are read from it or passed over', () => {
  fc.assert(
    fc.property(fc.array(fc.oneof(fc.string(), fc.constantFrom(SOCKET, TCP, ...TLS))), (lines) => {
      const listeners = parseListeners(lines.join('\n'));
      for (const { port } of listeners.tcp) assert.ok(port >= 0 && port <= 65_535);
      assert.equal(listenerOn(16509, listeners) !== null, lines.includes(TCP));
    }),
  );
});
