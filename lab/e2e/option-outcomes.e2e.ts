import assert from 'node:assert/strict';
import { after, afterEach, before, describe, it } from 'node:test';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationMode, MigrationWish } from '@virt-trust/contract/model/migration-options.ts';
import { canBootLab } from '../src/capability.ts';
import {
  diskContent,
  findIntact,
  type Guest,
  guestWords,
  guestXml,
  imageOctets,
  receiveGuest,
  shareBase,
  startGuest,
  wroteOn,
} from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { withUserfaultfd } from '../src/userfaultfd.ts';
import { Fleet } from './fleet.ts';
import { endMigrations, endVms, setRight } from './leftovers.ts';
import { jobFigure, livesOn, migrate, qemuSight, vmState, whileRunning } from './migration-sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

/** As fast as the network goes. */
const UNLIMITED = '8796093022207';
const VIRSH = ['virsh', '--connect', 'qemu:///system'];
const BUSY = { memoryMiB: 64, dirtyMiBPerSecond: 40 };
const CALM = { memoryMiB: 64, dirtyMiBPerSecond: 2 };

describe('what options of a migration come to', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `e2e-outcomes-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
  });
  after(() => fleet?.[Symbol.asyncDispose]());
  // What a step that failed left behind is nothing to the next.
  afterEach(() =>
    setRight(
      () => endMigrations(fleet),
      () => endVms(a, b),
    ),
  );

  const order = (mode: MigrationMode, guest: Guest, wish: MigrationWish = {}): MigrateVm => ({
    vm: guest.name,
    from: 'host-a',
    to: 'host-b',
    mode: [mode],
    ...wish,
  });

  const definedOn = async (host: Host) =>
    (await host.run([...VIRSH, 'list', '--all', '--persistent', '--name'])).split('\n').filter(Boolean);

  /** Lets a migration that was slow, to be looked at, go on as fast as it can. */
  const letGo = (host: Host, guest: Guest) => host.run([...VIRSH, 'migrate-setspeed', guest.name, UNLIMITED]);

  const stop = (host: Host, guest: Guest) => host.run([...VIRSH, 'destroy', guest.name]);

  for (const mode of ['tls', 'pinned'] as const) {
    it(`${mode}: a VM that does not migrate live stands still meanwhile, and runs at the destination`, async () => {
      const guest = { name: 'still', ...BUSY };
      await startGuest(a, guest);
      await receiveGuest(b, guest);
      const job = await migrate(fleet, order(mode, guest, { live: false, bandwidthMiB: 1 }));
      await whileRunning(fleet, job, 'see it paused on the source', async () =>
        (await vmState(a, guest.name)) === 'paused' &&
        (await qemuSight(a, guest.name)).status.includes('active')
          ? true
          : undefined,
      );
      await letGo(a, guest);
      await fleet.finished(job);
      assert.equal(await vmState(b, guest.name), 'running');
      await findIntact(b, guest);
      await stop(b, guest);
    });

    it(`${mode}: a VM that was paused before stays so, and goes on at the destination once it is resumed`, async () => {
      const guest = { name: 'resting', ...CALM };
      await startGuest(a, guest);
      await receiveGuest(b, guest);
      await a.run([...VIRSH, 'suspend', guest.name]);
      await fleet.finished(await migrate(fleet, order(mode, guest)));
      assert.equal(await vmState(b, guest.name), 'paused');
      await b.run([...VIRSH, 'resume', guest.name]);
      await livesOn(b, guest);
      await stop(b, guest);
    });

    it(`${mode}: a VM that is off is defined at the destination, and undefined at the source where asked`, async () => {
      const guest = { name: 'off', ...CALM };
      await a.writeFile('/run/off.xml', guestXml(guest));
      for (const host of [a, b]) await receiveGuest(host, guest);
      await a.run([...VIRSH, 'define', '/run/off.xml']);
      await fleet.finished(await migrate(fleet, order(mode, guest, { offline: true })));
      assert.deepEqual([await definedOn(a), await definedOn(b)], [['off'], ['off']]);
      assert.equal(await vmState(b, 'off'), 'shut off');
      await b.run([...VIRSH, 'undefine', 'off']);
      const wish = { offline: true, undefineSource: true };
      await fleet.finished(await migrate(fleet, order(mode, guest, wish)));
      assert.deepEqual([await definedOn(a), await definedOn(b)], [[], ['off']]);
      await b.run([...VIRSH, 'undefine', 'off']);
    });

    it(`${mode}: a definition stays, goes along, or goes away as asked`, async () => {
      const guest: Guest = { name: 'kept', ...CALM, persistent: true };
      await startGuest(a, guest);
      await receiveGuest(b, guest);
      await fleet.finished(await migrate(fleet, order(mode, guest)));
      assert.deepEqual([await definedOn(a), await definedOn(b)], [['kept'], []]);
      const back = { ...order(mode, guest, { persistent: true }), from: 'host-b', to: 'host-a' };
      await fleet.finished(await migrate(fleet, back));
      const wish = { persistent: true, undefineSource: true };
      await fleet.finished(await migrate(fleet, order(mode, guest, wish)));
      assert.deepEqual([await definedOn(a), await definedOn(b)], [[], ['kept']]);
      await findIntact(b, guest);
      await stop(b, guest);
      await b.run([...VIRSH, 'undefine', 'kept']);
    });

    for (const [format, backing] of [
      ['raw', false],
      ['qcow2', false],
      ['qcow2', true],
    ] as const) {
      const copyStorage = backing ? 'inc' : 'all';
      it(`${mode}: a ${format} disk is copied (${copyStorage}${format === 'raw' ? ', over parallel connections' : ''}) with what the VM writes meanwhile`, async () => {
        const guest: Guest = {
          name: `disk-${format}-${copyStorage}`,
          ...CALM,
          disk: { format, sizeMiB: 64, backing },
        };
        for (const host of [a, b]) await host.exec([...VIRSH, 'destroy', guest.name]);
        await startGuest(a, guest);
        if (backing) await shareBase(a, b, guest);
        await receiveGuest(b, guest);
        // Disks beside parallel connections: libvirt then has another name verified of the disks' connections.
        const parallel = format === 'raw' ? 2 : 0;
        const job = await migrate(fleet, order(mode, guest, { copyStorage, parallel, bandwidthMiB: 32 }));
        if (!backing) {
          const disk = await whileRunning(
            fleet,
            job,
            'see the disk in the progress',
            ({ progress }) => progress?.disk ?? undefined,
          );
          // What the VM writes again counts again.
          assert.ok(disk.totalBytes >= 64 * 2 ** 20, `${disk.totalBytes} octets`);
        }
        await fleet.finished(job);
        const words = await findIntact(b, guest);
        await stop(b, guest);
        const taken = await imageOctets(b, guest);
        if (backing) assert.ok(taken < 8 * 2 ** 20, `the overlay holds ${taken} octets`);
        else assert.ok(taken >= 60 * 2 ** 20, `the copy holds ${taken} octets`);
        const [source, copy] = [await diskContent(a, guest), await diskContent(b, guest)];
        assert.equal(copy.rest, source.rest);
        assert.ok(wroteOn(copy), JSON.stringify(copy.ticks));
        assert.ok(Math.max(...copy.ticks) >= (words.ticks.at(-1) ?? Number.POSITIVE_INFINITY));
      });
    }

    it(`${mode}: parallel connections are seen, and counted where the agents carry them`, async () => {
      const guest = { name: 'wide', ...CALM };
      await startGuest(a, guest);
      await receiveGuest(b, guest);
      const job = await migrate(fleet, order(mode, guest, { parallel: 4, bandwidthMiB: 1 }));
      const ports =
        mode === 'tls' ? 'dport >= :49152 and dport <= :49215' : 'dport >= :16520 and dport <= :16583';
      await whileRunning(fleet, job, 'see five connections of QEMU', async () => {
        const sockets = await a.run(['ss', '-Htn', 'state', 'established', `( ${ports} )`]);
        return sockets.split('\n').filter(Boolean).length >= 5 ? true : undefined;
      });
      await letGo(a, guest);
      const { migration } = await fleet.finished(job);
      if (mode === 'pinned') assert.equal(migration?.proof?.channel?.streams, 5);
      await findIntact(b, guest);
      await stop(b, guest);
    });

    it(`${mode}: compression finds what changed of a page`, async () => {
      const guest = { name: 'small', memoryMiB: 64, dirtyMiBPerSecond: 40, workingSetMiB: 24 };
      await startGuest(a, guest);
      await receiveGuest(b, guest);
      const job = await migrate(
        fleet,
        order(mode, guest, { compression: 'xbzrle', bandwidthMiB: 16, downtimeMs: 1 }),
      );
      await fleet.finished(job);
      // The source's libvirt tells the destination's what came of it.
      assert.ok((await jobFigure(b, guest.name, 'compression_pages', true)) > 0);
      await findIntact(b, guest);
      await stop(b, guest);
    });

    it(`${mode}: post-copy says what QEMU lacks where it lacks it, and runs at the destination before its memory is there`, async () => {
      const guest = { name: 'early', ...BUSY };
      await startGuest(a, guest);
      await receiveGuest(b, guest);
      // Half a minute before post-copy, and more in it, until each is let go.
      const wish = { postCopy: true, bandwidthMiB: 2 };
      await withUserfaultfd(false, () =>
        assert.rejects(
          async () => fleet.finished(await migrate(fleet, order(mode, guest, wish))),
          /userfaultfd|[Pp]ost-?copy/,
        ),
      );
      assert.equal(await vmState(a, guest.name), 'running');
      await livesOn(a, guest);
      const job = await withUserfaultfd(true, async () => {
        const begun = await migrate(fleet, order(mode, guest, wish));
        await whileRunning(fleet, begun, 'see it send', ({ progress }) =>
          (progress?.memory?.processedBytes ?? 0) > 0 ? true : undefined,
        );
        await a.run([...VIRSH, 'migrate-setspeed', guest.name, '1', '--postcopy']);
        await a.run([...VIRSH, 'migrate-setspeed', guest.name, '32']);
        await whileRunning(fleet, begun, 'see post-copy', async (now) =>
          now.progress?.stage === 'post-copy' ||
          (await qemuSight(a, guest.name)).status.includes('postcopy-active')
            ? true
            : undefined,
        );
        return begun;
      });
      await a.run([...VIRSH, 'migrate-setspeed', guest.name, UNLIMITED, '--postcopy']);
      await fleet.finished(job);
      await findIntact(b, guest);
      await stop(b, guest);
    });

    it(`${mode}: a migration past its time ends, or ends the VM's writing`, async () => {
      const guest = { name: 'late', ...BUSY };
      await startGuest(a, guest);
      await receiveGuest(b, guest);
      // Its memory alone takes longer than that, and more however fast the VM writes.
      const never = { bandwidthMiB: 2, downtimeMs: 1, timeoutSeconds: 6 };
      await assert.rejects(
        async () =>
          fleet.finished(await migrate(fleet, order(mode, guest, { ...never, timeoutAction: 'abort' }))),
        /time/,
      );
      assert.equal(await vmState(a, guest.name), 'running');
      assert.equal(await vmState(b, guest.name), '');
      await livesOn(a, guest);
      const job = await migrate(fleet, order(mode, guest, { ...never, timeoutAction: 'suspend' }));
      await whileRunning(fleet, job, 'see it paused', async () =>
        (await vmState(a, guest.name)) === 'paused' ? true : undefined,
      );
      await letGo(a, guest);
      await fleet.finished(job);
      assert.equal(await vmState(b, guest.name), 'running');
      await findIntact(b, guest);
      const back = {
        ...order(mode, guest, { ...never, bandwidthMiB: 8, timeoutAction: 'post-copy' }),
        from: 'host-b',
        to: 'host-a',
      };
      await withUserfaultfd(true, async () => fleet.finished(await migrate(fleet, back)));
      assert.equal((await guestWords(a, guest)).hellos, 0);
      await findIntact(a, guest);
      await stop(a, guest);
    });
  }
});
