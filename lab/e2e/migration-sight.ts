import assert from 'node:assert/strict';
import { cancelJob, getJob } from '@virt-trust/contract/manager/job-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { Guest } from '../src/guest/guest.ts';
import { guestWords } from '../src/guest/guest.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import type { Fleet } from './fleet.ts';

const PATIENCE = 180_000;
const VIRSH = ['virsh', '--connect', 'qemu:///system'];

/** What QEMU itself says of its migration, as `info migrate` and its relatives print it. */
export interface QemuSight {
  readonly status: string;
  readonly capabilities: ReadonlyMap<string, string>;
  readonly parameters: ReadonlyMap<string, string>;
}

/** Asks QEMU of a VM on the host, whatever libvirt thinks of it. */
export async function qemuSight(host: Host, vm: string): Promise<QemuSight> {
  const ask = async (what: string) =>
    (await host.exec([...VIRSH, 'qemu-monitor-command', vm, '--hmp', what])).stdout;
  const fields = (text: string) =>
    new Map(
      text.split('\n').flatMap((line): [string, string][] => {
        const [, name = '', value = ''] = /^([a-z0-9-]+): (.*?)\r?$/.exec(line) ?? [];
        return name === '' ? [] : [[name, value]];
      }),
    );
  return {
    status: await ask('info migrate'),
    capabilities: fields(await ask('info migrate_capabilities')),
    parameters: fields(await ask('info migrate_parameters')),
  };
}

/** The state of a VM on a host as libvirt has it, `running` or `paused`; empty where it is not there. */
export async function vmState(host: Host, vm: string): Promise<string> {
  return (await host.exec([...VIRSH, 'domstate', vm])).stdout.trim();
}

/** A figure of a job of libvirt's that runs, or of the one that ended last. */
export async function jobFigure(host: Host, vm: string, name: string, completed = false): Promise<number> {
  const which = completed ? ['--completed'] : [];
  const { stdout } = await host.exec([...VIRSH, 'domjobinfo', vm, '--rawstats', ...which]);
  return Number(new RegExp(`^${name}:\\s+(\\d+)$`, 'm').exec(stdout)?.[1] ?? Number.NaN);
}

/** Asks until the answer is not undefined, and no longer than the job runs. */
export async function whileRunning<Value>(
  fleet: Fleet,
  job: Job,
  what: string,
  ask: (job: Job) => Promise<Value | undefined> | Value | undefined,
): Promise<Value> {
  return until(what, PATIENCE, async () => {
    const now = await fleet.client.call(getJob, { params: { id: job.id } });
    const answer = await ask(now);
    if (answer === undefined && now.finishedAt !== null)
      throw new Error(`cannot ${what}: the job is ${now.state}: ${now.error?.message ?? now.result}`);
    return answer;
  });
}

export function migrate(fleet: Fleet, body: MigrateVm): Promise<Job> {
  return fleet.client.call(createMigrationJob, { body });
}

/** Cancels a migration under way and sees that the VM goes on where it was, and nothing of it is elsewhere. */
export async function cancelled(fleet: Fleet, job: Job, guest: Guest, from: Host, to: Host): Promise<void> {
  await fleet.client.call(cancelJob, { params: { id: job.id } });
  const last = await until('see the job end', PATIENCE, async () => {
    const now = await fleet.client.call(getJob, { params: { id: job.id } });
    return now.finishedAt === null ? undefined : now;
  });
  assert.equal(last.state, 'cancelled', last.error?.message ?? '');
  assert.equal(await vmState(from, guest.name), 'running');
  assert.equal(await vmState(to, guest.name), '');
  await livesOn(from, guest);
}

/** Waits until the guest has said something new on the host. */
export async function livesOn(host: Host, guest: Guest): Promise<void> {
  const { ticks } = await guestWords(host, guest);
  await until(`see ${guest.name} go on at ${host.name}`, PATIENCE, async () => {
    const now = await guestWords(host, guest);
    return now.ticks.length > ticks.length ? true : undefined;
  });
}

/** The most octets that any client of libvirt's has sent and libvirt has not read. */
const UNREAD = `{ ss -Htn state established '( sport = :16514 or sport = :16509 )' | awk '{ print $1 }'
ss -Hxn | awk '/libvirt-sock/ { print $3 }'; echo 0; } | sort -n | tail -n 1`;
/** Keep-alives of half a minute are less, calls of a migration more. */
const CALL_OCTETS = 400;

/** Waits until a call of a migration lies before a host's libvirt, which was stopped: it is noted before it is sent. */
export async function callArrived(host: Host): Promise<void> {
  await until(`see a call before libvirt of ${host.name}`, PATIENCE, async () => {
    const unread = Number(await host.run(['sh', '-c', UNREAD]));
    return unread > CALL_OCTETS ? true : undefined;
  });
}
