import assert from 'node:assert/strict';
import { after, before, beforeEach } from 'node:test';
import { collectHost, provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { cancelJob, getJob, listJobs } from '@virt-trust/contract/manager/job-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { HostDetail } from '@virt-trust/contract/model/host.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationMode, MigrationWish } from '@virt-trust/contract/model/migration-options.ts';
import type { SettingValue } from '@virt-trust/contract/model/setting.ts';
import { setUpAsFound } from '../src/adoptable.ts';
import { type Guest, receiveGuest, startGuest } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { untilObserved } from './agent-sight.ts';
import { Fleet } from './fleet.ts';
import { callArrived, migrate, vmState, whileRunning } from './migration-sight.ts';
import { START_TLS_SOCKET } from './restart-libvirtd.ts';

const VIRSH = ['virsh', '--connect', 'qemu:///system'];
const PATIENCE = 180_000;
const MODES = ['tls', 'pinned', 'plain'] as const;
/** As fast as the network goes. */
const UNLIMITED = '8796093022207';

/** The guest that every one of these migrations is of: at 1 MiB/s it never arrives, however slowly a step is taken. */
export const GUEST: Guest = { name: 'guest', memoryMiB: 64, dirtyMiBPerSecond: 2 };
/** How long the source waits for word from a destination that it lost at the hand-over. */
const DOUBT_SECONDS = 12;

/** Has libvirt's Prepare wait for as long as a file is there. */
const HOOK = `#!/bin/sh
if [ "$2" = migrate ]; then while [ -e /run/hold-prepare ]; do sleep 0.1; done; cat; fi
exit 0
`;

const canAll = ({ channel, security }: HostDetail) =>
  channel === 'up' && MODES.every((mode) => security.modes.includes(mode));

/** Two hosts of a story that can do every mode, a guest on the first, and what is done to its migrations. */
export type FailureScene = ReturnType<typeof failureScene>;

/** Registers what boots the hosts before a story and ends them after it; each of its cases begins with the guest on host-a alone. */
export function failureScene(lab: string) {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
    await b.writeFile('/etc/libvirt/hooks/qemu', HOOK, 0o755);
    await setUpAsFound([a, b], { libvirt: 'tcp', qemuTls: false });
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    await set('migration.doubt_limit', `${DOUBT_SECONDS}s`);
    await heard();
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  // What a case that failed left behind is nothing to the next.
  beforeEach(async () => {
    if (fleet.url === '') await fleet.startManager();
    for (const host of [a, b]) {
      await host.plugCable();
      if (!(await host.running())) await host.boot();
      await host.run(['sh', '-c', 'rm -f /run/hold-prepare; kill -CONT $(pidof libvirtd) 2>/dev/null; true']);
    }
    for (const [setting, value] of changed) await set(setting, value);
    changed.clear();
    await endMigrations();
    await mend();
    await gone(b);
    if ((await vmState(a, GUEST.name)) !== 'running') {
      await gone(a);
      await startGuest(a, GUEST);
    }
    await receiveGuest(b, GUEST);
    await heard();
  });

  const set = async (setting: string, value: SettingValue | null) => {
    await fleet.client.call(putSetting, { params: { setting }, query: {}, body: { value } });
  };
  /** What a case has set that is otherwise in all others, with what it is there. */
  const changed = new Map<string, SettingValue | null>();
  /** Sets something for the rest of this case. */
  const setNow = async (setting: string, value: SettingValue) => {
    changed.set(setting, setting === 'migration.doubt_limit' ? `${DOUBT_SECONDS}s` : null);
    await set(setting, value);
  };

  /** Ends what is under way yet: none where the case before came to its end. */
  async function endMigrations(): Promise<void> {
    const { items } = await fleet.client.call(listJobs, { query: { limit: 100 } });
    for (const job of items) {
      if (job.kind !== 'migrate' || job.finishedAt !== null) continue;
      await fleet.client.call(cancelJob, { params: { id: job.id } }).catch(() => {});
      await ended(job);
    }
  }

  /** Gives host-b its TLS listener back, and files in place of those that its agent leaves alone. */
  async function mend(): Promise<void> {
    await b.run(['sh', '-c', START_TLS_SOCKET]);
    const isLeft = await untilObserved(b, 'hear what it leaves alone', ({ pending }) =>
      pending.some(({ why }) => why.includes('left alone')),
    );
    if (!isLeft) return;
    const renewed = { params: { name: 'host-b' }, body: { renew: true } };
    await fleet.finished(await fleet.client.call(provisionHost, renewed));
  }

  /** Takes the guest off a host; it may be gone in that moment by itself. */
  const gone = (host: Host) =>
    until(`take ${GUEST.name} off ${host.name}`, PATIENCE, async () => {
      if ((await vmState(host, GUEST.name)) === '') return true;
      await host.exec([...VIRSH, 'destroy', GUEST.name]);
      return undefined;
    });

  /** Waits until both hosts have told that they can do all modes, and tell it anew over channels that are up now. */
  const heard = () =>
    until('hear what both hosts can do', PATIENCE, async () => {
      for (const name of ['host-a', 'host-b']) {
        const stored = await fleet.show(name);
        if (!canAll(stored)) return undefined;
        // What is stored may be from before the host was down.
        const told = await fleet.client.call(collectHost, { params: { name } }).catch(() => undefined);
        if (told === undefined || !canAll(told)) return undefined;
      }
      return true;
    });

  const wanted = (mode: MigrationMode, wish: MigrationWish = {}): MigrateVm => ({
    vm: GUEST.name,
    from: 'host-a',
    to: 'host-b',
    mode: [mode],
    ...wish,
  });

  const ended = (job: Job) =>
    until('see the job end', PATIENCE, async () => {
      const last = await fleet.client.call(getJob, { params: { id: job.id } });
      return last.finishedAt === null ? undefined : last;
    });

  /** A migration that is seen to send memory, slowly. */
  async function underWay(mode: MigrationMode, wish: MigrationWish = {}): Promise<Job> {
    const job = await migrate(fleet, wanted(mode, { bandwidthMiB: 1, ...wish }));
    await whileRunning(fleet, job, 'see it send', ({ migration }) =>
      migration?.step === 'perform' && (migration.progress?.processedBytes ?? 0) > 0 ? true : undefined,
    );
    return job;
  }

  const letGo = () => a.run([...VIRSH, 'migrate-setspeed', GUEST.name, UNLIMITED]);
  const stopLibvirtd = (host: Host) => host.run(['sh', '-c', 'kill -STOP $(pidof libvirtd)']);
  const atFinish = async (job: Job) => {
    await whileRunning(fleet, job, 'see it finish', ({ migration }) =>
      migration?.step === 'finish' ? true : undefined,
    );
    await callArrived(b);
  };

  /** What an operator is told of a job that failed: libvirt's words, the phase, and what to do. */
  function told(job: Job, phase: RegExp, words: RegExp): void {
    assert.equal(job.state, 'failed', job.result ?? '');
    const message = job.error?.message ?? '';
    const hint = job.error?.hint ?? '';
    assert.match(message, phase);
    assert.match(message, words);
    assert.ok(hint.length > 10, `no hint with: ${message}`);
    assert.ok(
      message.includes(job.migration?.error?.message.slice(0, 200) ?? ''),
      "the host's words in full",
    );
  }

  return {
    hosts: () => ({ fleet, a, b }),
    ...{ setNow, wanted, ended, underWay, letGo, stopLibvirtd, atFinish, told },
  };
}
