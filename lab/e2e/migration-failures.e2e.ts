import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { canBootLab } from '../src/capability.ts';
import { type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import { until } from '../src/until.ts';
import { observedOn } from './agent-sight.ts';
import { destinationDies } from './failure-cases.ts';
import { failureScene, GUEST } from './failure-scene.ts';
import { nothingLeft, runsOnlyOn } from './migration-remains.ts';
import { migrate } from './migration-sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const VIRSH = ['virsh', '--connect', 'qemu:///system'];
const PATIENCE = 180_000;

describe('migrations that go wrong', { skip }, () => {
  const scene = failureScene(`e2e-failures-${process.pid}`);
  const { setNow, wanted, ended } = scene;

  it('1. a host only says that it has TLS: the migration ends with the reason, the VM goes on, nothing is left', async () => {
    const { fleet, a, b } = scene.hosts();
    await b.run([
      'sh',
      '-c',
      'systemctl stop libvirtd.service libvirtd-tls.socket; systemctl start libvirtd.service',
    ]);
    const outcome = await migrate(fleet, wanted('tls')).then(
      async (job) => (await ended(job)).error,
      (error: { message: string; hint?: string }) => error,
    );
    assert.match(outcome?.message ?? '', /16514|TLS|listen/);
    assert.ok((outcome?.hint ?? '') !== '');
    await runsOnlyOn(GUEST, a, b);
    await nothingLeft(a, b);
  });

  destinationDies(scene, 'plain');

  it('13. certificate and grants end in mid-flight, and nothing is cut', async () => {
    const { fleet, a, b } = scene.hosts();
    await setNow('migration.client_certificate_minutes', 1);
    await setNow('migration.grant_minutes', 1);
    // Both at once: each takes more than a minute, and arrives by itself.
    await Promise.all(
      (['tls', 'pinned'] as const).map(async (mode) => {
        const guest: Guest = { name: `calm-${mode}`, memoryMiB: 80, dirtyMiBPerSecond: 0 };
        await startGuest(a, guest);
        await receiveGuest(b, guest);
        const job = await migrate(fleet, { ...wanted(mode, { bandwidthMiB: 1 }), vm: guest.name });
        const last = await ended(job);
        assert.equal(last.state, 'done', last.error?.message ?? '');
        assert.ok((last.migration?.progress?.elapsedMs ?? 0) > 60_000);
        await runsOnlyOn(guest, b, a);
        await b.run([...VIRSH, 'destroy', guest.name]);
      }),
    );
    await nothingLeft(a, b);
  });

  for (const [number, what, files, script, words] of [
    [
      '14',
      'the CA file is missing at the destination',
      ['ca-cert.pem'],
      'rm -f ca-cert.pem',
      /ca-cert\.pem|CA/,
    ],
    [
      '15',
      "the destination serves a certificate for another host's name",
      ['server-cert.pem', 'server-key.pem'],
      'cp /root/other.pem server-cert.pem; cp /root/other.key server-key.pem; chgrp libvirt-qemu server-*; chmod 0640 server-*',
      /name|host-a/,
    ],
  ] as const) {
    it(`${number}. ${what}: libvirt's words come back, in spite of --force`, async () => {
      const { fleet, a, b } = scene.hosts();
      const directory = '/var/lib/virt-trust/services/migration/current';
      await b.writeFile('/root/other.pem', await a.readFile(`${directory}/server-cert.pem`));
      await b.writeFile('/root/other.key', await a.readFile(`${directory}/server-key.pem`), 0o600);
      await until('see the agent leave it alone', PATIENCE, async () => {
        await b.run(['sh', '-c', `cd ${directory} && ${script}`]);
        const { pending } = await observedOn(b);
        const isLeft = (file: string) =>
          pending.some((one) => one.what.endsWith(`/${file}`) && one.why.includes('left alone'));
        return files.every(isLeft) || undefined;
      });
      const unforced = await migrate(fleet, wanted('tls')).then(ended, (error: Error) => error);
      assert.match(
        unforced instanceof Error ? unforced.message : (unforced.error?.message ?? ''),
        words,
        'what was found in advance',
      );
      const outcome = await migrate(fleet, { ...wanted('tls'), force: true }).then(
        async (job) => (await ended(job)).error,
        (error: { message: string; hint?: string }) => error,
      );
      assert.match(outcome?.message ?? '', words);
      assert.ok((outcome?.hint ?? '') !== '');
      await runsOnlyOn(GUEST, a, b);
      await nothingLeft(a, b);
    });
  }
});
