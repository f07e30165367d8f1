import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { setUpAsFound } from '../src/adoptable.ts';
import { canBootLab } from '../src/capability.ts';
import { exec, run } from '../src/command.ts';
import { Lab, sweep } from '../src/lab.ts';
import { labDirectory } from '../src/paths.ts';
import { readRecord } from '../src/record.ts';
import { qemuProcesses, runningVms, startVm } from '../src/vm.ts';
import { allTraces } from './all-traces.ts';

const capability = await canBootLab();
const options = { skip: capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}` };
const HOSTS = ['host-a', 'host-b'];
const name = (text: string) => `t${process.pid}-${text}`;

function pair(lab: Lab) {
  return [lab.host('host-a'), lab.host('host-b')] as const;
}

test('two hosts boot, answer to ssh and libvirt, run a VM, and leave nothing behind', options, async () => {
  const lab = await Lab.up({ name: name('whole'), hosts: HOSTS, keepState: false });
  try {
    const [a, b] = pair(lab);
    for (const host of lab.hosts) {
      const scanned = await run(['ssh-keyscan', '-t', 'ed25519', host.address]);
      const fingerprint = await run(['ssh-keygen', '-l', '-f', '-'], { input: scanned });
      assert.equal(fingerprint.split(' ')[1], await host.sshFingerprint());
      const login = [
        'ssh',
        '-F',
        'none',
        '-i',
        lab.sshKey,
        '-o',
        'BatchMode=yes',
        '-o',
        'StrictHostKeyChecking=no',
      ];
      const said = await run([...login, '-o', 'UserKnownHostsFile=/dev/null', host.sshTarget, 'hostname']);
      assert.equal(said.trim(), host.name);
      assert.equal((await host.run(['systemctl', 'is-system-running'])).trim(), 'running');
      assert.equal(
        (await host.exec(['systemctl', 'is-enabled', 'libvirtd-tls.socket'])).stdout.trim(),
        'disabled',
      );
    }
    const identifiers = await Promise.all(lab.hosts.map((host) => host.run(['virsh', 'capabilities'])));
    const uuids = new Set(identifiers.map((text) => /<uuid>(.*)<\/uuid>/.exec(text)?.[1]));
    assert.equal(uuids.size, 2);
    assert.equal(
      new Set(await Promise.all(lab.hosts.map((host) => host.readFile('/etc/machine-id')))).size,
      2,
    );

    const cards = await a.run(['ip', '-brief', 'addr', 'show', 'up']);
    for (const card of a.plan.interfaces) {
      const line = cards.split('\n').find((text) => text.startsWith(card.name)) ?? '';
      assert.ok(
        [card.address, card.address6].every((address) => line.includes(` ${address}/`)),
        cards,
      );
    }
    for (const { address, address6 } of b.plan.interfaces)
      for (const there of [address, address6])
        await a.run(['bash', '-c', `exec 3<>/dev/tcp/${there}/22`], { timeout: 60_000 });

    await startVm(a, { name: 'vm1', vncListen: '127.0.0.1' });
    const [before] = await qemuProcesses(a);
    assert.equal(before?.vm, 'vm1');
    await a.run(['systemctl', 'restart', 'libvirtd']);
    assert.deepEqual(await qemuProcesses(a), [before]);

    await b.cutCable();
    const cut = await b.run(['cat', '/sys/class/net/eth0/carrier']);
    await b.plugCable();
    assert.deepEqual([cut.trim(), (await b.run(['cat', '/sys/class/net/eth0/carrier'])).trim()], ['0', '1']);
    await b.cutCable('display');
    assert.equal((await b.run(['cat', '/sys/class/net/eth2/carrier'])).trim(), '0');
    assert.equal((await b.run(['cat', '/sys/class/net/eth1/carrier'])).trim(), '1');
    await b.plugCable('display');

    await b.writeFile('/root/kept', 'as it was', 0o600);
    await b.crash();
    await assert.rejects(b.exec(['true']), (error) => isTrustError(error, 'lab.not_running'));
    await b.boot();
    assert.equal(await b.readFile('/root/kept'), 'as it was');
    assert.equal((await b.run(['stat', '-c', '%a', '/root/kept'])).trim(), '600');
  } finally {
    await lab.down();
  }
  assert.deepEqual(await allTraces(lab.record), []);
  await assert.rejects(stat(labDirectory(lab.name)));
  await lab.down();
});

for (const libvirt of ['tls', 'tcp'] as const) {
  test(
    `between hosts that somebody else set up, a VM migrates live over qemu+${libvirt}://`,
    options,
    async () => {
      await using lab = await Lab.up({ name: name(libvirt), hosts: HOSTS, keepState: false });
      const [a, b] = pair(lab);
      await setUpAsFound(lab.hosts, { libvirt, qemuTls: libvirt === 'tls' });
      await startVm(a, { name: 'vm1', vncListen: '0.0.0.0' });
      const native = libvirt === 'tls' ? ['--tls'] : [];
      const there = ['virsh', 'migrate', '--live', ...native, 'vm1', 'qemu+SCHEME://host-b/system'];
      await a.run(there.map((word) => word.replace('SCHEME', libvirt)));
      assert.deepEqual([await runningVms(a), await runningVms(b)], [[], ['vm1']]);
      if (libvirt === 'tcp') return;
      // Were the certificates not looked at, this would go through.
      await a.run(['rm', '/etc/pki/qemu/ca-cert.pem']);
      const refused = await b.exec([
        'virsh',
        'migrate',
        '--live',
        '--tls',
        'vm1',
        'qemu+tls://host-a/system',
      ]);
      assert.notEqual(refused.code, 0);
      assert.deepEqual(await runningVms(b), ['vm1']);
    },
  );
}

test('a lab whose state is kept boots again with its disks, keys and addresses', options, async () => {
  const labName = name('kept');
  const first = await Lab.up({ name: labName, hosts: ['host-a'], keepState: true });
  const fingerprint = await first.host('host-a').sshFingerprint();
  const { address } = first.host('host-a');
  await first.host('host-a').writeFile('/root/kept', 'x');
  await first.down();
  assert.deepEqual(await allTraces(first.record), []);

  const second = await Lab.up({ name: labName, hosts: ['host-a'], keepState: true });
  try {
    assert.equal(await second.host('host-a').readFile('/root/kept'), 'x');
    assert.equal(await second.host('host-a').sshFingerprint(), fingerprint);
    assert.equal(second.host('host-a').address, address);
  } finally {
    await second.down({ deleteState: true });
  }
});

test('a lab that is up belongs to its owner until that one detaches', options, async () => {
  const labName = name('owned');
  const inUse = (error: unknown) => isTrustError(error, 'lab.in_use');
  const request = { name: labName, hosts: ['host-a'], keepState: true };
  const lab = await Lab.up(request);
  try {
    await assert.rejects(Lab.up(request), inUse);
    await assert.rejects(sweep(labName), inUse);
    await lab.detach();
    await assert.rejects(Lab.up(request), inUse);
    assert.ok(await lab.host('host-a').running());
  } finally {
    await (await Lab.attach(labName)).down({ deleteState: true });
  }
  assert.deepEqual(await allTraces(lab.record), []);
});

test('a lab that is aborted half way leaves nothing', options, async () => {
  const aborted = new AbortController();
  const labName = name('abort');
  let record: Awaited<ReturnType<typeof readRecord>>;
  const up = Lab.up({
    name: labName,
    hosts: HOSTS,
    keepState: false,
    signal: aborted.signal,
    progress: ({ text }) => {
      if (!text.startsWith('booting host-b')) return;
      readRecord(labName).then((found) => {
        record = found;
        aborted.abort(new Error('enough'));
      });
    },
  });
  await assert.rejects(up, /enough/);
  assert.ok(record);
  assert.deepEqual(await allTraces(record), []);
  await assert.rejects(stat(labDirectory(labName)));
});

for (const moment of ['making the networks', 'booting host-b', 'host-a is up', 'lab ']) {
  test(
    `what an owner leaves that is killed at "${moment}" is swept away by the next one`,
    options,
    async () => {
      const labName = name('killed');
      const owner = spawn(process.execPath, [new URL('owner.ts', import.meta.url).pathname, labName], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      for await (const line of createInterface(owner.stdout)) if (line.startsWith(moment)) break;
      const ended = once(owner, 'exit');
      owner.kill('SIGKILL');
      await ended;
      const record = await readRecord(labName);
      assert.ok(record);
      const lab = await Lab.up({ name: labName, hosts: HOSTS, keepState: true });
      assert.equal(lab.record.index, record.index);
      await lab.down({ deleteState: true });
      assert.deepEqual(await allTraces(record), []);
      await sweep(labName);
      assert.equal((await exec(['pgrep', '-f', `${labDirectory(labName)}/`])).code, 1);
    },
  );
}

test('two labs run side by side without meeting', options, async () => {
  await using one = await Lab.up({ name: name('one'), hosts: ['host-a'], keepState: false });
  await using two = await Lab.up({ name: name('two'), hosts: ['host-a'], keepState: false });
  const [a, b] = [one.host('host-a'), two.host('host-a')];
  assert.notEqual(a.address, b.address);
  const across = await a.exec(['bash', '-c', `exec 3<>/dev/tcp/${b.address}/22`], { timeout: 60_000 });
  assert.notEqual(across.code, 0);
});
