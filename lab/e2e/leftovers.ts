import { describeError } from '@virt-trust/base/error.ts';
import { collectHost } from '@virt-trust/contract/manager/host-operations.ts';
import { cancelJob, getJob, listJobs } from '@virt-trust/contract/manager/job-operations.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import type { Fleet } from './fleet.ts';

const PATIENCE = 180_000;
const VIRSH = ['virsh', '--connect', 'qemu:///system'];

/** Does all of it, so that a step that failed is nothing to the next; what failed is thrown, and holds nothing else up. */
export async function setRight(...each: (() => Promise<unknown>)[]): Promise<void> {
  const failures: unknown[] = [];
  for (const one of each)
    try {
      await one();
    } catch (error) {
      failures.push(error);
    }
  if (failures.length > 0) throw new AggregateError(failures, failures.map(describeError).join('; '));
}

/** Ends the migrations that a step which failed left under way, and waits until they are over. */
export async function endMigrations({ client }: Fleet): Promise<void> {
  const { items } = await client.call(listJobs, { query: { limit: 100 } });
  for (const { id } of items.filter((job) => job.finishedAt === null && MIGRATING.has(job.kind))) {
    // It may have ended by itself meanwhile.
    await client.call(cancelJob, { params: { id } }).catch(() => {});
    await until(`see job ${id} end`, PATIENCE, async () =>
      (await client.call(getJob, { params: { id } })).finishedAt === null ? undefined : true,
    );
  }
}

const MIGRATING: ReadonlySet<string> = new Set(['migrate', 'host-evacuate']);

/** Has no VM on the hosts any more, neither running nor paused nor only defined. */
export async function endVms(...hosts: readonly Host[]): Promise<void> {
  for (const host of hosts)
    await until(`see no VM on ${host.name}`, PATIENCE, async () => {
      const uuids = (await host.run([...VIRSH, 'list', '--all', '--uuid'])).split('\n').filter(Boolean);
      for (const uuid of uuids)
        for (const end of ['destroy', 'undefine']) await host.exec([...VIRSH, end, uuid]);
      return uuids.length === 0 ? true : undefined;
    });
}

/** Waits until hosts answer the manager over channels that are up now, and it knows what they say. */
export async function heardFrom({ client }: Fleet, ...names: readonly string[]): Promise<void> {
  for (const name of names)
    await until(`hear ${name}`, PATIENCE, () =>
      client.call(collectHost, { params: { name } }).then(
        () => true,
        () => undefined,
      ),
    );
}
