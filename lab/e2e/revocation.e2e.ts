import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, it, type TestContext } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import { verifyAudit } from '@virt-trust/contract/manager/audit-operations.ts';
import { listCertificates } from '@virt-trust/contract/manager/certificate-operations.ts';
import { provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import {
  listCrls,
  refreshCrls,
  releaseCertificate,
  revokeCertificate,
  revokeHost,
} from '@virt-trust/contract/manager/lifecycle-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { STOLEN, type StolenClient, stealClient } from '../src/stolen-client.ts';
import { until } from '../src/until.ts';
import { runningVms, startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PATIENCE = 180_000;

/** QEMU's own TLS code on the host's migration files as the destination, and a client that comes to it. */
const NBD = `
client=$1; d=$(mktemp -d); chmod 755 "$d"; truncate -s 65536 "$d/image"; chown -R libvirt-qemu "$d" "$client"
user='setpriv --reuid libvirt-qemu --regid libvirt-qemu --init-groups'
$user qemu-nbd --object tls-creds-x509,id=t,endpoint=server,dir=/etc/pki/libvirt-migrate,verify-peer=on --tls-creds t \\
  --socket "$d/nbd" --format raw --persistent --read-only "$d/image" >/dev/null 2>"$d/said" & server=$!
until test -S "$d/nbd" || ! kill -0 $server 2>/dev/null; do sleep 0.05; done
$user qemu-img info --object "tls-creds-x509,id=t,endpoint=client,dir=$client,verify-peer=on" \\
  --image-opts "driver=nbd,path=$d/nbd,tls-creds=t,tls-hostname=$2" >/dev/null 2>&1; code=$?
kill $server 2>/dev/null; wait $server 2>/dev/null; cat "$d/said"; rm -r "$d"; exit $code`;

/** The line that says it, among libvirt's log lines. */
function errorOf(said: string): string {
  return said.split('\n').find((line) => line.startsWith('error:')) ?? said.trim();
}

describe('revocation: a host is broken into, and the others have nothing to do with it from then on', {
  skip,
}, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  /** The client certificates of a migration from host-b, and of one from host-a. */
  let ofB: StolenClient;
  let session: ChildProcess;
  let trust: string;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-revocation-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    trust = await a.readFile('/etc/pki/CA/cacert.pem');
  });
  after(async () => {
    session?.kill();
    await fleet?.[Symbol.asyncDispose]();
  });

  const migrate = async (vm: string, from: string, to: string) =>
    fleet.finished(await fleet.client.call(createMigrationJob, { body: { vm, from, to } }));
  const uri = (host: Host, pkipath: string) => `qemu+tls://${host.address}/system?pkipath=${pkipath}`;
  const hostname = (from: Host, to: Host, pkipath: string) =>
    from.exec(['virsh', '-c', uri(to, pkipath), 'hostname']);
  const lets = (host: Host, client: StolenClient) =>
    probeLibvirt({
      host: host.address,
      port: 16514,
      serverName: host.address,
      trust,
      client,
      clock: systemClock,
      timeoutMs: 60_000,
    }).then(
      () => true,
      (error: unknown) => {
        if (isTrustError(error, 'probe.confirmation')) return false;
        throw error;
      },
    );
  const certificatesOf = async (host: string) =>
    (await fleet.client.call(listCertificates, { query: { host, limit: 100 } })).items;
  const controlCrl = async () => {
    const { items } = await fleet.client.call(listCrls, {});
    const crl = items.find(({ purpose }) => purpose === 'control');
    assert.ok(crl);
    return crl;
  };

  /** Migrates a VM and keeps what its source host held meanwhile; leaves it there as a pkipath with the host's CRL and one without. */
  async function clientOf(vm: string, from: Host, to: Host): Promise<StolenClient> {
    const client = await stealClient(from, () => migrate(vm, from.name, to.name));
    await from.run([
      'sh',
      '-c',
      'cp -r /root/stolen /root/with-crl; ln -s /etc/pki/CA/cacrl.pem /root/with-crl/cacrl.pem',
    ]);
    return client;
  }

  it('1. gives new hosts the CRLs before they are called secured', async () => {
    const { items } = await fleet.client.call(listCrls, {});
    assert.deepEqual(items.map(({ purpose, hosts }) => [purpose, hosts.current, hosts.behind]).sort(), [
      ['console', 2, []],
      ['control', 2, []],
      ['migration', 2, []],
      ['storage', 2, []],
    ]);
    for (const host of [a, b]) {
      assert.match(await host.readFile('/etc/pki/CA/cacrl.pem'), /BEGIN X509 CRL/);
      assert.match(await host.readFile('/etc/pki/libvirt-migrate/ca-crl.pem'), /BEGIN X509 CRL/);
    }
  });

  it('2. lets each other’s migrations in while nothing is revoked', async () => {
    await startVm(a, { name: 'left' });
    await startVm(b, { name: 'right' });
    ofB = await clientOf('right', b, a);
    await clientOf('right', a, b);
    assert.equal(await lets(a, ofB), true);
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      const { stdout, stderr } = await hostname(from, to, STOLEN);
      assert.equal(stdout.trim(), to.name, stderr);
    }
    session = await b.start(['virsh', '-c', uri(a, STOLEN), 'event', '--all', '--loop', '--timestamp']);
    await until('see the session of host-b', PATIENCE, async () => {
      const sessions = await a.run(['virt-admin', '-c', 'libvirtd:///system', 'client-list', 'libvirtd']);
      return / tls /.test(sessions) ? true : undefined;
    });
  });

  it('3. keeps host-b out of host-a at once, and ends its sessions', async (t: TestContext) => {
    const began = performance.now();
    const job = await fleet.client.call(revokeHost, {
      params: { name: 'host-b' },
      body: { reason: 'keyCompromise', comment: 'broken into' },
    });
    // One that comes just before is let in, and cut with the other sessions of host-b.
    const isRefused = () =>
      lets(a, ofB).then(
        (isLet) => !isLet || undefined,
        () => undefined,
      );
    await until('see host-b refused', PATIENCE, isRefused);
    const refused = performance.now() - began;
    await until('see its session end', PATIENCE, () => session.exitCode ?? session.signalCode ?? undefined);
    const cut = performance.now() - began;
    const done = await fleet.finished(job);
    t.diagnostic(
      `from the command: refused after ${(refused / 1000).toFixed(2)} s, session cut after ${(cut / 1000).toFixed(2)} s, job done and proven after ${((performance.now() - began) / 1000).toFixed(2)} s`,
    );
    assert.match(done.result ?? '', /2 of 2 hosts have the newest CRLs, proven on 2/);
    assert.ok((await certificatesOf('host-b')).every((one) => one.revocation?.reason === 'keyCompromise'));
    assert.ok((await certificatesOf('host-a')).every((one) => one.revocation === null));
    const detail = await fleet.show('host-b');
    assert.equal(detail.state, 'failed');
    assert.match(detail.reason ?? '', /revoked for keyCompromise .*virt-trust host provision host-b/);
  });

  it('4. a client that has the CRL refuses host-b’s libvirtd; one without it does not', async (t: TestContext) => {
    const refused = await hostname(a, b, '/root/with-crl');
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /revoked/);
    const { code } = await hostname(a, b, STOLEN);
    t.diagnostic(`libvirt's client without a CRL reaches the revoked host: ${code === 0 ? 'yes' : 'no'}`);
  });

  it('5. the manager migrates neither to host-b nor from it, and says why', async () => {
    for (const [vm, from, to] of [
      ['left', 'host-a', 'host-b'],
      ['right', 'host-b', 'host-a'],
    ] as const) {
      await assert.rejects(migrate(vm, from, to), {
        code: 'migration.host_revoked',
        message: /host-b .*revoked for keyCompromise/,
        hint: /virt-trust host provision host-b/,
      });
    }
    assert.deepEqual([await runningVms(a), await runningVms(b)], [['left'], ['right']]);
  });

  it('6. QEMU on host-a takes no migration from host-b, whoever drives it', async (t: TestContext) => {
    for (const name of ['ca-cert.pem', 'client-cert.pem', 'client-key.pem'])
      await a.writeFile(`/opt/of-b/${name}`, await b.readFile(`/etc/pki/libvirt-migrate/${name}`));
    const nbd = await a.exec(['sh', '-c', NBD, 'sh', '/opt/of-b', a.address]);
    assert.notEqual(nbd.code, 0);
    assert.match(nbd.stdout, /certificate has been revoked/);
    // With a client certificate of host-a, which host-a's libvirtd lets in.
    for (const name of ['cacert.pem', 'clientcert.pem', 'clientkey.pem'])
      await b.writeFile(`/root/of-a/${name}`, await a.readFile(`${STOLEN}/${name}`), 0o600);
    const pushed = await b.exec(['virsh', 'migrate', '--live', '--tls', 'right', uri(a, '/root/of-a')]);
    t.diagnostic(`virsh migrate from the revoked host: ${errorOf(pushed.stderr)}`);
    assert.notEqual(pushed.code, 0);
    assert.deepEqual(await runningVms(b), ['right']);
  });

  it('7. what a direct virsh migrate to host-b does, past every preflight', async (t: TestContext) => {
    const refused = await a.exec(['virsh', 'migrate', '--live', '--tls', 'left', uri(b, '/root/with-crl')]);
    assert.notEqual(refused.code, 0);
    assert.deepEqual(await runningVms(a), ['left']);
    const past = await a.exec(['virsh', 'migrate', '--live', '--tls', 'left', uri(b, STOLEN)]);
    t.diagnostic(
      `virsh migrate to the revoked host without a CRL in its pkipath: ${past.code === 0 ? 'goes through' : errorOf(past.stderr)}`,
    );
    const [here, there] = [await runningVms(a), await runningVms(b)];
    assert.ok([...here, ...there].includes('left'));
    if (there.includes('left')) await b.run(['virsh', 'destroy', 'left']);
  });

  it('8. a forged CRL and an older one are refused by the agent; the manager mends both', async () => {
    const good = await controlCrl();
    const tamper = async (change: (database: DatabaseSync) => void) => {
      await fleet.stopManager();
      const database = new DatabaseSync(join(fleet.stateDirectory, 'manager', 'manager.db'));
      try {
        database.exec('drop trigger crls_grow');
        change(database);
        database.exec(
          "create trigger crls_grow before update on crls when new.number <= old.number\n  begin select raise(abort, 'a CRL number is never used again'); end",
        );
      } finally {
        database.close();
      }
      await fleet.startManager();
    };
    const held = await a.readFile('/etc/pki/CA/cacrl.pem');
    await tamper((database) => {
      const row = database.prepare("select whole from crls where authority = 'control'").get() as {
        whole: Uint8Array;
      };
      const forged = Buffer.from(row.whole);
      forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
      database
        .prepare("update crls set whole = ?, number = number + 1 where authority = 'control'")
        .run(forged);
    });
    await until('see the forged CRL refused', PATIENCE, async () => {
      const said = await a.exec(['journalctl', '-u', 'virt-trust-agent', '--no-pager', '-o', 'cat']);
      const events = await a.exec(['sh', '-c', 'cat /var/lib/virt-trust/agent/events/*.jsonl']);
      return /crl\.(?:refused|signature)/.test(`${said.stdout}${events.stdout}`) ? true : undefined;
    });
    assert.equal(await a.readFile('/etc/pki/CA/cacrl.pem'), held);
    await fleet.finished(await fleet.client.call(refreshCrls, {}));
    const mended = await controlCrl();
    assert.ok(BigInt(`0x${mended.number}`) > BigInt(`0x${good.number}`));
    // A store of before: it holds the former CRL under its former number, and the hosts hold a later one.
    const before = new Map<string, unknown>();
    const database = new DatabaseSync(join(fleet.stateDirectory, 'manager', 'manager.db'), {
      readOnly: true,
    });
    before.set('row', database.prepare("select * from crls where authority = 'control'").get());
    database.close();
    await fleet.finished(await fleet.client.call(refreshCrls, {}));
    const latest = await controlCrl();
    await tamper((store) => {
      const row = before.get('row') as Record<string, string | number | Uint8Array | null>;
      store
        .prepare("update crls set number = ?, whole = ?, for_hosts = ? where authority = 'control'")
        .run(row['number'] ?? null, row['whole'] ?? null, row['for_hosts'] ?? null);
      store.exec('delete from crl_deliveries');
    });
    const leapt = await until('see the manager leap over it', PATIENCE, async () => {
      const crl = await controlCrl();
      return BigInt(`0x${crl.number}`) > BigInt(`0x${latest.number}`) && crl.hosts.behind.length === 0
        ? crl
        : undefined;
    });
    assert.equal(leapt.hosts.current, 2);
    assert.equal(await lets(a, ofB), false);
  });

  it('9. a certificate on hold is refused, and let in again once it is released', async () => {
    await startVm(a, { name: 'third' });
    const [serial] = (await certificatesOf('host-a')).flatMap((one) =>
      one.service === 'vnc' ? [one.serialNumber] : [],
    );
    assert.ok(serial);
    const body = { reason: 'certificateHold' as const };
    await fleet.finished(await fleet.client.call(revokeCertificate, { params: { serial }, body }));
    await assert.rejects(fleet.client.call(revokeCertificate, { params: { serial }, body }), (error) =>
      isTrustError(error, 'certificate.revoked'),
    );
    await fleet.finished(await fleet.client.call(releaseCertificate, { params: { serial } }));
    assert.ok((await certificatesOf('host-a')).every((one) => one.revocation === null));
    await a.run(['virsh', 'destroy', 'third']);
  });

  it('10. host provision brings host-b back with new keys, and both migrate again', async () => {
    const old = (await fleet.show('host-b')).observed?.credentials.map(({ pin }) => pin);
    await fleet.finished(await fleet.client.call(provisionHost, { params: { name: 'host-b' }, body: {} }));
    const detail = await fleet.show('host-b');
    assert.equal(detail.state, 'secured');
    for (const { pin } of detail.observed?.credentials ?? []) assert.ok(!old?.includes(pin));
    await migrate('right', 'host-b', 'host-a');
    await migrate('right', 'host-a', 'host-b');
    // The stolen one stays revoked.
    assert.equal(await lets(a, ofB), false);
  });

  it('11. removing a host revokes its certificates, and nothing of its channel', async () => {
    await b.run(['virsh', 'destroy', 'right']);
    await fleet.remove('host-b');
    const ended = (await certificatesOf('host-b')).map((one) => one.revocation?.reason);
    assert.deepEqual(new Set(ended), new Set(['keyCompromise', 'cessationOfOperation']));
    // A host whose libvirt takes its time is brought it once more.
    await until(
      'see the newest CRL on all that is left',
      PATIENCE,
      async () => isDeepStrictEqual((await controlCrl()).hosts, { current: 1, behind: [] }) || undefined,
    );
    await fleet.add('host-b');
    assert.equal((await fleet.show('host-b')).state, 'secured');
    assert.equal((await fleet.client.call(verifyAudit, {})).intact, true);
  });
});
