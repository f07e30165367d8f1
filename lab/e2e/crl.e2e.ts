import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { listCrls, refreshCrls } from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { REVOKED_CLIENT, setUpAsFound } from '../src/adoptable.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { runningVms, startVm } from '../src/vm.ts';
import { observedOn } from './agent-sight.ts';
import { Fleet } from './fleet.ts';
import { UNMOUNT } from './mounts.ts';
import { clientReaches } from './old-ways.ts';
import { sightOf } from './sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

const LIBVIRT_CRL = '/etc/pki/CA/cacrl.pem';
const QEMU_CRLS = ['/etc/pki/libvirt-migrate/ca-crl.pem', '/etc/pki/libvirt-vnc/ca-crl.pem'];
const UNITS = [
  'libvirtd.service',
  'libvirtd.socket',
  'libvirtd-ro.socket',
  'libvirtd-admin.socket',
  'libvirtd-tls.socket',
];

/** What libvirt's client says with the certificate that the old CA revoked. */
function revokedClient(host: Host) {
  const uri = `qemu+tls://${host.address}/system?pkipath=${REVOKED_CLIENT}`;
  return host.exec(['virsh', '-c', uri, 'hostname']);
}

const NBD = `
client=$1; d=$(mktemp -d); chmod 755 "$d"; truncate -s 65536 "$d/image"; chown -R libvirt-qemu "$d"
setpriv --reuid libvirt-qemu --regid libvirt-qemu --init-groups qemu-nbd --object tls-creds-x509,id=t,endpoint=server,dir=/etc/pki/libvirt-migrate,verify-peer=on --tls-creds t \\
  --socket "$d/nbd" --format raw --persistent --read-only "$d/image" >/dev/null 2>"$d/said" & server=$!
until test -S "$d/nbd" || ! kill -0 $server 2>/dev/null; do sleep 0.05; done
qemu-img info --object "tls-creds-x509,id=t,endpoint=client,dir=$client,verify-peer=on" \\
  --image-opts "driver=nbd,path=$d/nbd,tls-creds=t,tls-hostname=$2" >/dev/null 2>&1; code=$?
kill -KILL $server; wait $server 2>/dev/null; cat "$d/said"; rm -r "$d"; exit $code`;

/** QEMU's own TLS code with the host's migration files as the destination, and a client that comes to it. */
function nbd(host: Host, directory: string) {
  return host.exec(['sh', '-c', NBD, 'sh', directory, host.address], { timeout: 180_000 });
}

describe('the CRLs of a host', { skip }, () => {
  let fleet: Fleet;
  let host: Host;
  let asFound: string;
  let found: string;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-crl-${process.pid}`, hosts: ['host-a'] });
    host = fleet.host('host-a');
    await setUpAsFound([host], { libvirt: 'tls', qemuTls: true, crl: true });
    asFound = `${await sightOf(host)}${await timesOf()}`;
    found = await host.readFile(LIBVIRT_CRL);
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  const timesOf = () =>
    host.run(['stat', '-c', '%n %a %U:%G %Y %s', LIBVIRT_CRL, '/etc/pki/qemu/ca-crl.pem']);

  const crlOfHost = async (purpose: string) => {
    const one = (await observedOn(host)).crls.find((crl) => crl.purpose === purpose);
    return { number: Number.parseInt(one?.number ?? '0', 16), failure: one?.failure };
  };

  /** Has the CRLs signed anew and brought to the host, whatever becomes of that; the number that the host has then. */
  async function refresh(): Promise<number> {
    const job = await fleet.client.call(refreshCrls, {});
    await fleet.finished(job).catch(() => {});
    const { items } = await fleet.client.call(listCrls, {});
    return Number.parseInt(items.find(({ purpose }) => purpose === 'control')?.number ?? '0', 16);
  }

  it('1. honours the CRL that was found, before it is managed and after', async () => {
    assert.match((await revokedClient(host)).stderr, /TLS confirmation/);
    await fleet.add('host-a');
    await refresh();
    assert.match((await revokedClient(host)).stderr, /TLS confirmation/);
    assert.ok(await clientReaches(host, host, 'tls'));
    for (const path of [LIBVIRT_CRL, ...QEMU_CRLS]) {
      const [first = '', second = ''] = (await host.readFile(path)).split(/(?<=-----END X509 CRL-----\n)/);
      assert.equal(first.trim(), found.slice(found.indexOf('-----BEGIN')).trim(), path);
      assert.match(second, /BEGIN X509 CRL/);
    }
  });

  it('2. gives QEMU CRLs that it can read: a VM starts, and as a destination it refuses whom they revoke', async () => {
    for (const path of QEMU_CRLS)
      await host.run([
        'setpriv',
        '--reuid',
        'libvirt-qemu',
        '--regid',
        'libvirt-qemu',
        '--init-groups',
        'cat',
        path,
      ]);
    await startVm(host, { name: 'vm', vncListen: '127.0.0.1' });
    assert.deepEqual(await runningVms(host), ['vm']);
    const revoked = await nbd(host, REVOKED_CLIENT);
    assert.match(revoked.stdout, /certificate has been revoked/);
    assert.notEqual(revoked.code, 0);
    assert.equal((await nbd(host, '/etc/pki/libvirt-migrate')).code, 0);
  });

  it('3. takes a CRL while /etc/pki is read-only', async () => {
    await host.run(['sh', '-c', 'mount --bind /etc/pki /etc/pki && mount -o remount,bind,ro /etc/pki']);
    try {
      const number = await refresh();
      assert.deepEqual(await crlOfHost('control'), { number, failure: null });
    } finally {
      await host.run(['sh', '-c', `${UNMOUNT} /etc/pki`]);
    }
  });

  it('4. takes a CRL while libvirtd is stopped, says so, and has it loaded once it runs', async () => {
    await host.run(['systemctl', 'stop', ...UNITS]);
    try {
      const number = await refresh();
      const installed = await crlOfHost('control');
      assert.equal(installed.number, number);
      assert.match(installed.failure ?? '', /the libvirt daemon is stopped/);
    } finally {
      await host.run(['systemctl', 'start', ...UNITS.slice(1)]);
    }
    assert.match((await revokedClient(host)).stderr, /TLS confirmation/);
    await until('see the CRL loaded', 120_000, async () =>
      (await crlOfHost('control')).failure === null ? true : undefined,
    );
  });

  it('5. repairs a CRL that was changed by hand', async () => {
    const path = '/var/lib/virt-trust/services/libvirt/crl.pem';
    const whole = await host.readFile(path);
    await host.writeFile(path, found);
    await host.run(['rm', LIBVIRT_CRL]);
    await host.run(['systemctl', 'restart', 'virt-trust-agent']);
    await until('see the CRL repaired', 120_000, async () =>
      (await host.exec(['cat', LIBVIRT_CRL])).stdout === whole ? true : undefined,
    );
  });

  it('6. lets the CRL that was found go with its CA', async () => {
    await fleet.passGate('host-a', 'serve');
    // So that it is the server that refuses, and not the client.
    await host.run(['cp', '/etc/pki/CA/cacert.pem', `${REVOKED_CLIENT}/cacert.pem`]);
    assert.match((await revokedClient(host)).stderr, /TLS confirmation/);
    // The VM was started with the files of before.
    await host.run(['virsh', 'destroy', 'vm']);
    await fleet.passGate('host-a', 'retire-found-ca');
    for (const path of [LIBVIRT_CRL, ...QEMU_CRLS])
      assert.equal((await host.readFile(path)).split('BEGIN X509 CRL').length, 2, path);
  });

  it('7. gives the CRL that was found back as it was', async () => {
    await fleet.remove('host-a');
    assert.equal(`${await sightOf(host)}${await timesOf()}`, asFound);
    assert.match((await revokedClient(host)).stderr, /TLS confirmation/);
  });
});
