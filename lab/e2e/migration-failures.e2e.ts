import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { canBootLab } from '../src/capability.ts';
import { receiveGuest, startGuest } from '../src/guest/guest.ts';
import { destinationDies } from './failure-cases.ts';
import { failureScene, GUEST } from './failure-scene.ts';
import { nothingLeft, runsOnlyOn } from './migration-remains.ts';
import { migrate } from './migration-sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const VIRSH = ['virsh', '--connect', 'qemu:///system'];

describe('migrations that go wrong', { skip }, () => {
  const scene = failureScene(`e2e-failures-${process.pid}`);
  const { set, wanted, ended } = scene;

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
    await b.run([
      'sh',
      '-c',
      'systemctl stop libvirtd.service; systemctl start libvirtd-tls.socket libvirtd.service',
    ]);
    await nothingLeft(a, b);
  });

  destinationDies(scene, 'plain');

  it('13. certificate and grants end in mid-flight, and nothing is cut', async () => {
    const { fleet, a, b } = scene.hosts();
    await set('migration.client_certificate_minutes', 1);
    await set('migration.grant_minutes', 1);
    const other = { ...GUEST, name: 'other' };
    await startGuest(a, other);
    await receiveGuest(b, other);
    // Both at once: each takes more than a minute.
    await Promise.all(
      (
        [
          ['tls', GUEST],
          ['pinned', other],
        ] as const
      ).map(async ([mode, guest]) => {
        const job = await migrate(fleet, { ...wanted(mode, { bandwidthMiB: 1 }), vm: guest.name });
        const last = await ended(job);
        assert.equal(last.state, 'done', last.error?.message ?? '');
        assert.ok((last.migration?.progress?.elapsedMs ?? 0) > 60_000);
        await runsOnlyOn(guest, b, a);
      }),
    );
    await nothingLeft(a, b);
    await b.run([...VIRSH, 'destroy', other.name]);
    await set('migration.client_certificate_minutes', null);
    await set('migration.grant_minutes', null);
  });

  for (const [number, what, script, words] of [
    ['14', 'the CA file is missing at the destination', 'rm -f ca-cert.pem', /ca-cert\.pem|CA/],
    [
      '15',
      "the destination serves a certificate for another host's name",
      'cp /root/other.pem server-cert.pem; cp /root/other.key server-key.pem; chgrp libvirt-qemu server-*; chmod 0640 server-*',
      /name|host-a/,
    ],
  ] as const) {
    it(`${number}. ${what}: libvirt's words come back, in spite of --force`, async () => {
      const { fleet, a, b } = scene.hosts();
      const directory = '/var/lib/virt-trust/services/migration/current';
      await b.writeFile('/root/other.pem', await a.readFile(`${directory}/server-cert.pem`));
      await b.writeFile('/root/other.key', await a.readFile(`${directory}/server-key.pem`), 0o600);
      // Until the agent leaves it alone.
      await b.run(['sh', '-c', `cd ${directory} && for i in $(seq 8); do ${script}; sleep 2; done`]);
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
      const renewed = { params: { name: 'host-b' }, body: { renew: true } };
      await fleet.finished(await fleet.client.call(provisionHost, renewed));
    });
  }
});
