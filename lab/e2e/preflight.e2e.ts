import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { after, afterEach, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describeError } from '@virt-trust/base/error.ts';
import { revokeCertificate } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import {
  createMigrationJob,
  getMigrationMatrix,
  planMigration,
} from '@virt-trust/contract/manager/migration-operations.ts';
import { makeTestCertificate, type TestIdentity } from '@virt-trust/libvirt/test-certificates.ts';
import { OID } from '@virt-trust/pki/der/oid.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { runningVms, startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { endMigrations, setRight } from './leftovers.ts';
import { MountedFiles, UNMOUNT } from './mounts.ts';
import { PairPlans } from './pair-plans.ts';
import { RESTART_LIBVIRTD } from './restart-libvirtd.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const MAIN = fileURLToPath(new URL('../../packages/cli/src/main.ts', import.meta.url));
const DIRECTORY = '/etc/pki/libvirt-migrate';
const DISK = '/srv/picky.img';
const PATIENCE = 180_000;
/** `VIR_MIGRATE_UNSAFE`: what is on local disks here has nothing in it. */
const UNSAFE = 512;

/** A VM that wants more of its host than most. */
const PICKY = (devices: string, cpu = '') => `<domain type='qemu'>
  <name>picky</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>${cpu}
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices><emulator>/usr/bin/qemu-system-x86_64</emulator>${devices}</devices>
</domain>
`;

const QEMU = '/usr/bin/qemu-system-x86_64';
/** A QEMU that has no sse4.1, as libvirt is told, too: what is in its cache it takes for what the machine has. */
const OLD_CPU = `
set -e; ln ${QEMU} ${QEMU}.real
printf '#!/bin/sh\\nfor a do shift; case "$a" in *sse4.1=on*) a=$(printf %%s "$a" | sed s/sse4.1=on/sse4.1=off/) ;; esac; set -- "$@" "$a"; done\\nexec ${QEMU}.real "$@"\\n' >${QEMU}.new
chmod 755 ${QEMU}.new; mv -f ${QEMU}.new ${QEMU}; ${RESTART_LIBVIRTD}
virsh domcapabilities --virttype qemu --emulatorbin ${QEMU} >/dev/null
sed -i "/name='sse4.1'/s/value='true'/value='false'/" /var/cache/libvirt/qemu/capabilities/*.xml
${RESTART_LIBVIRTD}`;
const OLD_CPU_MENDED = `if test -e ${QEMU}.real; then
mv -f ${QEMU}.real ${QEMU}; rm -f /var/cache/libvirt/qemu/capabilities/*.xml; ${RESTART_LIBVIRTD}; virsh capabilities >/dev/null; fi`;

const SECRET = '5ec7e75e-2222-4333-8444-555555555555';
/** Defines libvirt's secret of an encrypted disk; its value is another step. */
const DEFINE_SECRET = `echo "<secret ephemeral='no' private='yes'><uuid>${SECRET}</uuid><usage type='volume'><volume>${DISK}</volume></usage></secret>" >/run/secret.xml && virsh secret-define /run/secret.xml`;
const SET_SECRET = `printf passphrase >/run/secret && virsh secret-set-value ${SECRET} --file /run/secret --plain && rm /run/secret`;
/** A host whose only NUMA node has another number, as libvirt and libnuma read it. */
const OTHER_NODE = `mkdir -p /run/nodes/node1 && cp -r /sys/devices/system/node/node0/. /run/nodes/node1/ 2>/dev/null
for name in online possible has_memory; do echo 1 >/run/nodes/$name; done
mount --bind /run/nodes /sys/devices/system/node && ${RESTART_LIBVIRTD} && virsh version >/dev/null`;
const OTHER_NODE_MENDED = `if mountpoint -q /sys/devices/system/node; then
${UNMOUNT} /sys/devices/system/node; ${RESTART_LIBVIRTD}; virsh version >/dev/null; fi`;
const CONF = '/etc/libvirt/libvirtd.conf';
/** A host with the host UUID of another, as libvirt tells it. */
const SAME_UUID = (uuid: string) => `set -e
cp ${CONF} /root/conf; { grep -v ^host_uuid /root/conf; echo 'host_uuid = "${uuid}"'; } >/root/conf.same
mount --bind /root/conf.same $(readlink -f ${CONF}); ${RESTART_LIBVIRTD}; virsh version >/dev/null`;
const SAME_UUID_MENDED = `if mountpoint -q $(readlink -f ${CONF}); then
${UNMOUNT} $(readlink -f ${CONF}); ${RESTART_LIBVIRTD}; virsh version >/dev/null; fi`;
const FORGET_SECRET = `virsh secret-undefine ${SECRET} 2>/dev/null; rm -f /run/secret`;

describe('the preflight of a migration', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let authority: TestIdentity;
  let plans: PairPlans;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-preflight-${process.pid}`, hosts: ['host-a', 'host-b', 'host-c'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    plans = new PairPlans(fleet);
    for (const name of ['host-a', 'host-b', 'host-c']) await fleet.add(name);
    await startVm(a, { name: 'guest' });
    authority = await makeTestCertificate({ subject: 'CN=Story CA', ca: true });
    // What both can do was told.
    await plans.isReady();
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  const files = new MountedFiles();
  /** Puts other bytes in place of a file that virt-trust keeps right: it cannot be renamed over, so it stays. */
  const replace = (host: Host, name: string, text: string, mode = 0o644) =>
    files.put(host, `${DIRECTORY}/${name}`, text, mode);

  const leaf = (names: readonly string[], end: 'server' | 'client', notAfter?: string) =>
    makeTestCertificate({
      subject: 'O=Story,CN=host',
      issuer: authority,
      names: names.map((address) => ({ kind: 'ip' as const, value: address })),
      purposes: { oids: [end === 'server' ? OID.serverAuth : OID.clientAuth], critical: false },
      ...(notAfter === undefined ? {} : { notAfter }),
    });

  /** Both hosts trust an authority of the story's own and serve what it issued. */
  async function serveOwn(namesOfB: readonly string[], notAfterOfB?: string): Promise<void> {
    for (const host of [a, b]) {
      const isB = host === b;
      const server = await leaf(isB ? namesOfB : [a.address], 'server', isB ? notAfterOfB : undefined);
      const client = await leaf([host.address], 'client');
      await replace(host, 'ca-cert.pem', authority.pem);
      await replace(host, 'server-cert.pem', server.pem);
      await replace(host, 'server-key.pem', server.keyPem);
      await replace(host, 'client-cert.pem', client.pem);
      await replace(host, 'client-key.pem', client.keyPem);
    }
  }

  /** QEMU measures how long the passphrase's derivation takes, and gives up where others have the cores meanwhile. */
  const makeEncryptedDisk = (host: Host) =>
    until(`make an encrypted disk on ${host.name}`, 120_000, async () => {
      const image = `qemu-img create -q -f luks --object secret,id=s,data=passphrase -o key-secret=s,iter-time=10 ${DISK} 1M`;
      const { code, stderr } = await host.exec(['sh', '-c', image]);
      if (code !== 0) assert.match(stderr, /Unable to get accurate CPU usage/);
      return code === 0 ? true : undefined;
    });

  async function startPicky(devices: string, cpu = ''): Promise<void> {
    await a.writeFile('/run/picky.xml', PICKY(devices, cpu));
    await a.run(['virsh', 'create', '/run/picky.xml']);
  }
  const endPicky = () => a.run(['virsh', 'destroy', 'picky']);

  /** What a firewall in front of host-b does with QEMU's ports; undefined for nothing. */
  async function filter(rule: string | undefined): Promise<void> {
    await b.exec(['nft', 'delete', 'table', 'inet', 'story']);
    if (rule === undefined) return;
    const chain = `type filter hook input priority 0; policy accept;\ntcp dport 49152-49215 ${rule}`;
    await b.run(['nft', `table inet story {\nchain input {\n${chain}\n}\n}`]);
  }

  /** UUIDs of VMs with names of others. */
  const misnamed = new Set<string>();
  // What a step that failed left behind is nothing to the next.
  afterEach(() =>
    setRight(
      () => endMigrations(fleet),
      () => files.giveBack(),
      () => filter(undefined),
      () => a.exec(['sh', '-c', 'virsh destroy picky; virsh snapshot-delete guest kept --metadata']),
      () => b.exec(['sh', '-c', 'virsh destroy picky; virsh destroy guest']),
      () => b.run(['sh', '-c', SAME_UUID_MENDED], { timeout: 120_000 }),
      () => b.run(['sh', '-c', OTHER_NODE_MENDED], { timeout: 120_000 }),
      () => b.run(['sh', '-c', OLD_CPU_MENDED], { timeout: 120_000 }),
      () => b.run(['chmod', '755', '/srv']),
      ...[a, b].map((host) => () => host.exec(['sh', '-c', `${FORGET_SECRET} ${DISK}`])),
      ...[a, b].flatMap((host) => [...misnamed].map((uuid) => () => host.exec(['virsh', 'destroy', uuid]))),
      async () => {
        if ((await runningVms(a)).includes('guest')) return;
        await a.exec(['virsh', 'destroy', 'guest']);
        await startVm(a, { name: 'guest' });
      },
    ),
  );

  it('1. is ready where all is well, by real handshakes in both directions', async () => {
    const made = await plans.plan();
    assert.deepEqual([made.ready, made.findings], [true, []], JSON.stringify(made, null, 1));
    const seen = made.handshakes.map(
      ({ service, from, to, outcome }) => `${service} ${from} ${to} ${outcome}`,
    );
    assert.deepEqual(
      seen.toSorted(),
      ['libvirt', 'migration', 'peer'].flatMap((service) => [
        `${service} host-a host-b good`,
        `${service} host-b host-a good`,
      ]),
    );
    const stream = made.handshakes.find(({ service, to }) => service === 'migration' && to === 'host-b');
    const { observed } = await fleet.show('host-b');
    const settled = observed?.credentials.find(({ service }) => service === 'migration');
    assert.equal(stream?.servedPin, settled?.pin);
    assert.equal(stream?.serialNumber, settled?.serialNumber);
    assert.match(stream?.target ?? '', new RegExp(`^${b.address.replaceAll('.', '\\.')}:49[12]\\d\\d$`));
  });

  it('2. leaves nothing behind: no grant, no listener, no process', async () => {
    const look = `ss -Htln | grep -E ':(16518|49[12][0-9][0-9]|165[2-8][0-9])[[:space:]]'; pgrep -a qemu-nbd; ls -d /run/virt-trust/preflight-* 2>/dev/null; true`;
    for (const host of [a, b]) {
      let left = '';
      await until(`see nothing left on ${host.name}`, PATIENCE, async () => {
        left = await host.run(['sh', '-c', look]);
        return left === '' ? true : undefined;
      }).catch((error) => assert.fail(`${describeError(error)}: ${left}`));
    }
  });

  it('3. sees an expired certificate at the destination, which no migration gets past', async () => {
    await serveOwn([b.address]);
    // Files that are put there one by one may have been told of halfway.
    await plans.isReady();
    await files.giveBack();
    await serveOwn([b.address], '2026-02-01T00:00:00Z');
    const made = await plans.finds('certificate.expired', 'host-b');
    assert.ok(made.findings.some(({ what }) => /2026-02-01/.test(what)));
    await plans.failsWith(/expired|no TLS for migrations/);
    await files.giveBack();
  });

  it('4. sees a certificate without the name by which it is reached', async () => {
    await serveOwn(['192.0.2.77']);
    const made = await plans.finds('name.mismatch', 'host-b');
    assert.ok(made.findings.some(({ what }) => what.includes('192.0.2.77') && what.includes(b.address)));
    await plans.failsWith(/does not match the hostname|certificate/i);
    await files.giveBack();
  });

  it('5. sees two authorities that do not know each other', async () => {
    await serveOwn([b.address]);
    await files.giveBack(a);
    await plans.finds('trust.untrusted', 'host-b');
    await plans.failsWith(/certificate|issuer/i);
    await files.giveBack();
  });

  it('6. sees a key that QEMU may not read', async () => {
    const key = await b.readFile(`${DIRECTORY}/server-key.pem`);
    await replace(b, 'server-key.pem', key, 0o600);
    await plans.finds('files.unreadable', 'host-b');
    await plans.finds('qemu.cannot_serve', 'host-b');
    await plans.failsWith(/read|no TLS for migrations/i);
    await files.giveBack();
    await plans.isReady();
  });

  it('7. sees ports that a firewall on the way drops', async () => {
    const rule = (verdict: string) => filter(`ip saddr ${a.address} ${verdict}`);
    await rule('drop');
    const made = await plans.finds('port.filtered', 'host-b');
    assert.equal(
      made.handshakes.find(({ service, from }) => service === 'migration' && from === 'host-a')?.outcome,
      'unreachable',
    );
    // The same port, refused at once: TCP's patience with silence is not what is tested.
    await rule('reject with tcp reset');
    await plans.failsWith(/unable to connect|refused|connect/i);
    await filter(undefined);
  });

  it('8. sees a disk that the destination does not have, and libvirt fails over it', async () => {
    await a.run(['truncate', '-s', '1M', DISK]);
    await startPicky(
      `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${DISK}'/><target dev='vda' bus='virtio'/></disk>`,
    );
    const asked = { vm: 'picky', flags: UNSAFE };
    await plans.finds('disk.missing', 'host-b', asked);
    await plans.finds('disk.not_shared', 'host-a', { vm: 'picky' });
    await plans.finds('disk.not_made', 'host-b', { vm: 'picky', copyStorage: 'all' });
    await plans.failsWith(/picky\.img/, asked);
    await plans.failsWith(/without shared storage is unsafe/, { vm: 'picky' });
    await b.run(['truncate', '-s', '2M', DISK]);
    await plans.finds('disk.other_size', 'host-b', { vm: 'picky', copyStorage: 'all' });
    await plans.failsWith(/different sizes/, { vm: 'picky', copyStorage: 'all' });
    await b.run(['chmod', '700', '/srv']);
    await plans.finds('disk.unreadable', 'host-b', asked);
    await plans.failsWith(/Permission denied/, asked);
    await b.run(['sh', '-c', `chmod 755 /srv; rm ${DISK}`]);
    await endPicky();
  });

  it('9. sees what else of a VM’s host the destination does not have, and nothing where it has', async () => {
    const bridge = 'ip link add br7 type bridge && ip link set br7 up';
    const filter = `echo "<filter name='picky'><rule action='accept' direction='inout'/></filter>" >/run/filter.xml && virsh nwfilter-define /run/filter.xml`;
    const log = 'install -d /var/log/picky';
    await a.run(['sh', '-c', [bridge, filter, log, 'truncate -s 1M /srv/picky.iso'].join(' && ')]);
    const devices = (
      listen: string,
    ) => `<interface type='bridge'><source bridge='br7'/><filterref filter='picky'/></interface>
      <graphics type='vnc' port='5950' autoport='no' listen='${listen}'/>
      <serial type='file'><source path='/var/log/picky/log'/></serial>
      <disk type='file' device='cdrom'><source file='/srv/picky.iso' startupPolicy='optional'/><target dev='hda' bus='ide'/><readonly/></disk>`;
    await startPicky(devices(a.address));
    const { findings } = await plans.finds('bridge.missing', 'host-b', { vm: 'picky' });
    assert.deepEqual(
      findings
        .filter(({ severity }) => severity !== 'warning')
        .map(({ severity, code }) => `${severity} ${code}`)
        .toSorted(),
      ['bridge', 'display.address', 'filter', 'output']
        .map((one) => `error ${one.includes('.') ? one : `${one}.missing`}`)
        .concat('note disk.left_out'),
    );
    await plans.failsWith(/br7|picky|bind/, { vm: 'picky' });
    await endPicky();
    await b.run(['sh', '-c', [bridge, filter, log].join(' && ')]);
    await startPicky(devices('0.0.0.0'));
    await plans.isReady({ vm: 'picky' });
    await endPicky();
  });

  it('9a. sees a secret and a NUMA node that the destination does not have, and libvirt fails over them', async () => {
    for (const words of [DEFINE_SECRET, SET_SECRET]) await a.run(['sh', '-c', words]);
    for (const host of [a, b]) await makeEncryptedDisk(host);
    await startPicky(
      `<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='${DISK}'><encryption format='luks'><secret type='passphrase' uuid='${SECRET}'/></encryption></source><target dev='vda' bus='virtio'/></disk>`,
    );
    const asked = { vm: 'picky', flags: UNSAFE };
    await plans.finds('secret.missing', 'host-b', asked);
    await plans.failsWith(/no secret with matching uuid/, asked);
    await b.run(['sh', '-c', DEFINE_SECRET]);
    await plans.finds('secret.no_value', 'host-b', asked);
    await plans.failsWith(/does not have a value/, asked);
    await b.run(['sh', '-c', SET_SECRET]);
    await plans.isReady(asked);
    await endPicky();
    await startPicky('', "<numatune><memory mode='strict' nodeset='0'/></numatune>");
    await plans.isReady({ vm: 'picky' });
    await b.run(['sh', '-c', OTHER_NODE], { timeout: 120_000 });
    await plans.finds('vm.numa', 'host-b', { vm: 'picky' });
    await plans.failsWith(/NUMA node 0 is unavailable/, { vm: 'picky' });
    await b.run(['sh', '-c', OTHER_NODE_MENDED], { timeout: 120_000 });
    await plans.isReady();
    await endPicky();
  });

  it('9b. takes no VM for another whose ID or UUID is its name, in modes tls and pinned', async () => {
    const guest = (await a.run(['virsh', 'domuuid', 'guest'])).trim();
    const id = (await a.run(['virsh', 'domid', 'guest'])).trim();
    // Where the guest is meant, it would be found to be what keeps it.
    await a.run([
      'virsh',
      'snapshot-create-as',
      'guest',
      'kept',
      '--memspec',
      '/run/kept,snapshot=external',
      '--live',
    ]);
    assert.equal((await plans.plan()).ready, false);
    const uuids = new Map<string, string>();
    for (const name of [id, guest]) {
      await startVm(a, { name });
      const own = await uuidOf(a, name);
      uuids.set(name, own);
      misnamed.add(own);
    }
    const go = async (vm: string, from: string, to: string, mode: 'tls' | 'pinned') => {
      const asked = plans.order({ vm, from, to, mode: [mode] });
      const made = await fleet.client.call(planMigration, { body: asked });
      assert.deepEqual(
        [made.ready, made.decision.mode],
        [true, mode],
        JSON.stringify(made.findings, null, 1),
      );
      await fleet.finished(await fleet.client.call(createMigrationJob, { body: asked }));
    };
    // By its name, which is the guest's ID; back where the guest is by its own UUID.
    await go(id, 'host-a', 'host-b', 'tls');
    assert.deepEqual((await runningVms(b)).toSorted(), [id]);
    await go(id, 'host-b', 'host-a', 'pinned');
    // What looks like a UUID is one first, so its own UUID says which is meant.
    await go(uuids.get(guest) ?? '', 'host-a', 'host-b', 'pinned');
    assert.deepEqual(await runningVms(b), [guest]);
    await go(uuids.get(guest) ?? '', 'host-b', 'host-a', 'tls');
    assert.deepEqual((await runningVms(a)).toSorted(), ['guest', id, guest].toSorted());
    assert.equal((await a.run(['virsh', 'domuuid', 'guest'])).trim(), guest);
    for (const uuid of misnamed) await a.run(['virsh', 'destroy', uuid]);
    await a.run(['virsh', 'snapshot-delete', 'guest', 'kept', '--metadata']);
    await plans.isReady();
  });

  it('10. sees a CPU that the destination has not', async () => {
    const cpu =
      "<cpu mode='custom' match='exact' check='partial'><model fallback='forbid'>qemu64</model><feature policy='require' name='sse4.1'/></cpu>";
    await startPicky('', cpu);
    await plans.isReady({ vm: 'picky' });
    await b.run(['sh', '-c', OLD_CPU], { timeout: 120_000 });
    const made = await plans.finds('vm.cpu', 'host-b', { vm: 'picky' });
    assert.ok(made.findings.some(({ what }) => what.includes('sse4.1')));
    await plans.failsWith(/CPU/, { vm: 'picky' });
    await b.run(['sh', '-c', OLD_CPU_MENDED], { timeout: 120_000 });
    await endPicky();
  });

  it('11. sees two hosts of one UUID, and a VM that is there already', async () => {
    const uuid = /<uuid>([0-9a-f-]+)<\/uuid>/.exec(await a.run(['virsh', 'capabilities']))?.[1] ?? '';
    await b.run(['sh', '-c', SAME_UUID(uuid)], { timeout: 120_000 });
    await plans.finds('host.same_uuid', null);
    await plans.failsWith(/same host|UUID/i);
    await b.run(['sh', '-c', SAME_UUID_MENDED], { timeout: 120_000 });
    await startVm(b, { name: 'guest' });
    await plans.finds('vm.name_taken', 'host-b');
    await b.run(['virsh', 'destroy', 'guest']);
    await plans.isReady();
  });

  it('12. shows three hosts towards each other, with real handshakes, and what is wrong', async () => {
    const matrix = await fleet.client.call(getMigrationMatrix, { query: { probe: true } });
    assert.equal(matrix.pairs.length, 6);
    const wrong = matrix.pairs.filter(({ mode, ready }) => mode !== 'tls' || !ready);
    assert.deepEqual(wrong, [], JSON.stringify(wrong, null, 1));
    assert.equal(
      await cli('migrate', '--matrix', '--probe'),
      `FROM \\ TO   1 2 3
1 host-a    . T T
2 host-b    T . T
3 host-c    T T .

T tls   P pinned   C plain, in the clear   x would fail   - no mode is feasible
small letters: with warnings

6 pairs: 6 tls (with real handshakes)
`,
    );
    // Not what host-b does with itself: it would wait for its own server.
    await filter('iifname != lo reject with tcp reset');
    const text = await cli('migrate', '--matrix', '--probe');
    assert.match(text, /^1 host-a {4}\. x T$/m);
    assert.match(text, /^2 host-b {4}t \. t$/m);
    assert.match(text, /^3 host-c {4}T x \.$/m);
    assert.match(text, /^6 pairs: 4 tls, 2 would fail \(with real handshakes\)$/m);
    assert.match(
      text,
      /^ {2}error: .*host-b.*\(qemu\.cannot_serve|port\.closed, host-b, host-a to host-b\)$/m,
    );
    await filter(undefined);
  });

  it('13. takes no host whose certificate was revoked, whatever is forced', async () => {
    const { observed } = await fleet.show('host-b');
    const serving = observed?.credentials.find(({ service }) => service === 'migration')?.serialNumber;
    const job = await fleet.client.call(revokeCertificate, {
      params: { serial: serving ?? '' },
      body: { reason: 'keyCompromise' },
    });
    await fleet.finished(job).catch(() => {});
    // By the source's agent, too, which looks at its own CRL as no QEMU does.
    const made = await plans.plannedSo('see it revoked on both sides', ({ findings }) =>
      [/crl\.revoked unsafe /, /host-a cannot use QEMU's stream .*revoked/].every((words) =>
        findings.some(({ code, severity, what }) => words.test(`${code} ${severity} ${what}`)),
      ),
    );
    assert.equal(made.ready, false);
    await plans.failsWith(/revoked/);
  });

  /** Of the VM of that very name, whatever else it may be to virsh. */
  async function uuidOf(host: Host, name: string): Promise<string> {
    const all = await host.run(['virsh', 'list', '--all', '--uuid', '--name']);
    const line = all.split('\n').find((one) => one.slice(36).trim() === name);
    return line?.slice(0, 36) ?? assert.fail(`${name} is not on ${host.name}`);
  }

  /** What the program prints for a person. */
  async function cli(...args: string[]): Promise<string> {
    const env = { ...process.env, VIRT_TRUST_URL: fleet.url, VIRT_TRUST_TOKEN: fleet.token };
    const { stdout } = await promisify(execFile)(process.execPath, [MAIN, ...args], { env });
    return stdout;
  }
});
