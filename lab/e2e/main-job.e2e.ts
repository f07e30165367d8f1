import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import { verifyAudit } from '@virt-trust/contract/manager/audit-operations.ts';
import { listCertificates } from '@virt-trust/contract/manager/certificate-operations.ts';
import { collectHost, provisionHost, rollHostKey } from '@virt-trust/contract/manager/host-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import { rollManagerKey } from '@virt-trust/contract/manager/self-operations.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { qemuProcesses, runningVms, startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { sightOf } from './sight.ts';
import { QEMU_STREAMS, watchWire } from './wire.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

/** What virt-pki-validate 9.0 says of every good set: it compares the CA's CN with the leaf's O, and wants a client certificate. */
const QUIRKS = [
  /^Found /,
  /^Did not find .*clientcert.pem client certificate$/,
  /^The machine cannot act as a client$/,
  /^see https:\/\/libvirt.org\/|^on how to regenerate it$/,
  /^The CA certificate and the server certificate do not match$/,
  /^(?:CA|Server) organization: /,
];

describe('the main job: two fresh hosts, from nothing to a VM that migrates over TLS', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  const asFound = new Map<string, string>();

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-main-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    for (const host of [a, b]) asFound.set(host.name, await sightOf(host));
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  it('1. refuses a wrong fingerprint, and one not given, and does nothing on the host', async () => {
    await assert.rejects(fleet.add('host-a', { fingerprint: `SHA256:${'A'.repeat(43)}` }), (error) =>
      isTrustError(error, 'ssh.host_key_mismatch'),
    );
    const { fingerprint: _, ...order } = await fleet.order('host-a');
    const { addHost } = await import('@virt-trust/contract/manager/host-operations.ts');
    await assert.rejects(
      fleet.client.call(addHost, { body: order }),
      (error) =>
        isTrustError(error, 'ssh.host_key_unaccepted') && /--ssh-fingerprint SHA256:/.test(error.hint ?? ''),
    );
    assert.equal(await sightOf(a), asFound.get('host-a'));
    assert.equal((await a.exec(['test', '-e', '/usr/local/lib/virt-trust'])).code, 1);
  });

  it('2. only looks where it is to observe', async () => {
    await fleet.add('host-a', { observe: true });
    assert.equal(await sightOf(a), asFound.get('host-a'));
    const detail = await fleet.show('host-a');
    assert.equal(detail.state, 'observed');
    assert.equal(detail.inventory?.libvirt?.daemonMode, 'monolithic');
    assert.equal(detail.inventory?.qemu?.user, 'libvirt-qemu');
  });

  it('3. adds both hosts at once, every service proven', async () => {
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    for (const name of ['host-a', 'host-b']) {
      const detail = await fleet.show(name);
      assert.equal(detail.state, 'secured');
      assert.equal(detail.group, 'X25519MLKEM768');
      assert.deepEqual(
        detail.observed?.credentials.map(({ service, phase, identity }) => [service, phase, identity]),
        [
          ['libvirt', 'settled', 'ours'],
          ['migration', 'settled', 'ours'],
          ['vnc', 'settled', 'ours'],
          ['spice', 'settled', 'ours'],
          ['nbd', 'settled', 'ours'],
          ['backup', 'settled', 'ours'],
        ],
      );
      const proofs = detail.observed?.credentials.flatMap((credential) => credential.proofs) ?? [];
      assert.ok(proofs.some((proof) => proof.by === 'manager' && /AUTH_LIST/.test(proof.detail)));
      assert.ok(proofs.some((proof) => proof.kind === 'qemu-tls'));
      assert.ok(proofs.some((proof) => proof.kind === 'vencrypt'));
    }
  });

  it('4. changes nothing the second time', async () => {
    const before = await sightOf(a);
    const count = (await fleet.client.call(listCertificates, { query: { host: 'host-a' } })).items.length;
    const job = await fleet.add('host-a');
    assert.equal(job.steps.find((step) => step.name.startsWith('Install'))?.detail, 'nothing to change');
    assert.equal(await sightOf(a), before);
    assert.equal(
      (await fleet.client.call(listCertificates, { query: { host: 'host-a' } })).items.length,
      count,
    );
    // Asked for what it has, it puts back what somebody took away.
    await a.run(['rm', '/etc/pki/libvirt/servercert.pem']);
    await fleet.finished(await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: {} }));
    assert.equal(await sightOf(a), before);
  });

  it('5. runs under a unit that systemd rates 4.0 or better, and lets only the manager in', async () => {
    const security = await a.run(['systemd-analyze', 'security', '--no-pager', 'virt-trust-agent.service']);
    const exposure = Number(/Overall exposure level for .*: ([\d.]+)/.exec(security)?.[1]);
    assert.ok(exposure <= 4, `exposure is ${exposure}`);
    const status = await a.run(['virt-trust', 'agent', 'status']);
    assert.match(status, /libvirt\s+settled/);
    const stranger = await b.exec([
      'sh',
      '-c',
      `timeout 10 bash -c 'exec 3<>/dev/tcp/${a.address}/16515 && cat <&3 | wc -c'`,
    ]);
    assert.equal(stranger.stdout.trim() || '0', '0');
  });

  it('6. leaves files that virt-pki-validate and certtool accept', async () => {
    const verified = await a.run([
      'certtool',
      '--verify',
      '--load-ca-certificate',
      '/etc/pki/CA/cacert.pem',
      '--infile',
      '/etc/pki/libvirt/servercert.pem',
    ]);
    assert.match(verified, /Verified\. The certificate is trusted/);
    const said = await a.exec(['virt-pki-validate']);
    assert.match(said.stdout, /Found server certificate .* for host-a\nFound server private key/);
    const complaints = said.stdout
      .split('\n')
      .filter((line) => line !== '' && !QUIRKS.some((quirk) => quirk.test(line)));
    assert.deepEqual(complaints, []);
  });

  it('7. gives a host that is broken into nothing on the others: its server pair is no client anywhere', async () => {
    const [certificatePem, privateKeyPem] = [
      await a.readFile('/etc/pki/libvirt/servercert.pem'),
      await a.readFile('/etc/pki/libvirt/private/serverkey.pem'),
    ];
    const attempt = probeLibvirt({
      host: b.address,
      port: 16514,
      serverName: b.address,
      trust: await a.readFile('/etc/pki/CA/cacert.pem'),
      client: { certificatePem, privateKeyPem },
      clock: systemClock,
      timeoutMs: 120_000,
    });
    await assert.rejects(attempt, (error) => isTrustError(error, 'probe.confirmation'));
  });

  it('8. migrates a VM with VNC live over TLS, both ways, and the wire says so', async () => {
    await startVm(a, { name: 'guest', vncListen: '0.0.0.0' });
    await fleet.finished(await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: {} }));
    const wire = await watchWire(fleet.lab, QEMU_STREAMS);
    const there = await fleet.finished(
      await fleet.client.call(createMigrationJob, { body: { vm: 'guest', from: 'host-a', to: 'host-b' } }),
    );
    const seen = await wire.stop();
    assert.ok(seen.connections > 0 && seen.plain === 0 && seen.tls > 0, JSON.stringify(seen));
    assert.match(there.result ?? '', /tls/);
    assert.notEqual(there.migration?.proof?.tlsCreds, '');
    assert.deepEqual([await runningVms(a), await runningVms(b)], [[], ['guest']]);
    await fleet.finished(
      await fleet.client.call(createMigrationJob, { body: { vm: 'guest', from: 'host-b', to: 'host-a' } }),
    );
    assert.deepEqual([await runningVms(a), await runningVms(b)], [['guest'], []]);
    for (const host of [a, b])
      assert.equal((await host.exec(['sh', '-c', 'ls /run/virt-trust/migrations/* 2>/dev/null'])).stdout, '');
  });

  it('9. renews every key while the VM runs on, its VNC served anew', async () => {
    const before = await qemuProcesses(a);
    const pinsBefore = (await fleet.show('host-a')).observed?.credentials.map((one) => one.pin);
    await fleet.finished(
      await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: { renew: true } }),
    );
    const after = await fleet.show('host-a');
    for (const [index, credential] of (after.observed?.credentials ?? []).entries())
      assert.notEqual(credential.pin, pinsBefore?.[index]);
    assert.deepEqual(await qemuProcesses(a), before);
    const vnc = after.observed?.credentials.find((one) => one.service === 'vnc');
    assert.ok(
      vnc?.proofs.some((proof) => proof.target.includes('guest') && proof.servedPin === vnc.pin),
      JSON.stringify(vnc?.proofs),
    );
  });

  it('10. rolls the keys of an agent and of the manager over the channel', async () => {
    const [pinBefore] = (await fleet.show('host-a')).agentPins;
    await fleet.finished(await fleet.client.call(rollHostKey, { params: { name: 'host-a' } }));
    assert.notEqual((await fleet.show('host-a')).agentPins[0], pinBefore);
    await fleet.finished(await fleet.client.call(rollManagerKey, {}));
    assert.equal((await fleet.client.call(collectHost, { params: { name: 'host-b' } })).channel, 'up');
    await fleet.stopManager();
    await fleet.startManager();
    assert.equal((await fleet.client.call(collectHost, { params: { name: 'host-a' } })).channel, 'up');
  });

  it('11. keeps an audit log that verifies', async () => {
    assert.equal((await fleet.client.call(verifyAudit, {})).intact, true);
  });

  it('12. gives both hosts back what was found on them, the VM running on', async () => {
    const before = await qemuProcesses(a);
    await Promise.all([fleet.remove('host-a'), fleet.remove('host-b')]);
    assert.deepEqual(await qemuProcesses(a), before);
    // The service itself goes once its answer was read.
    for (const host of [a, b])
      await until(`see the program of ${host.name} go`, 180_000, async () =>
        (await host.exec(['test', '-e', '/usr/local/lib/virt-trust'])).code === 1 ? true : undefined,
      );
    assert.equal(await sightOf(b), asFound.get('host-b'));
    assert.equal(await sightOf(a), asFound.get('host-a'));
    assert.equal((await b.exec(['systemctl', 'cat', 'virt-trust-agent.service'])).code, 1);
  });
});
