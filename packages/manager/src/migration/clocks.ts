import { instant } from '@virt-trust/base/instant.ts';
import { getStatus } from '@virt-trust/contract/agent/operations.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import { assertClock } from '../hosts/clock-skew.ts';
import type { JobContext } from '../jobs/job.ts';
import type { MigrationContext } from './context.ts';

/** How far the clocks of both hosts are ahead of the manager's, in milliseconds; 0 for one without an agent. */
export interface Ahead {
  readonly source: number;
  readonly destination: number;
}

/** Certificates and permissions of a migration are valid for minutes, by the clock of each host. Throws `host.clock_skew`. */
export async function compareClocks(
  { from, to }: Pick<MigrationOrder, 'from' | 'to'>,
  context: MigrationContext,
  job: JobContext,
  report: (detail: string) => void,
): Promise<Ahead> {
  const ahead = async (name: string): Promise<number> => {
    const host = await context.repository.find(name);
    if (host === null) return 0;
    const channel = await context.channels.of(host);
    await channel.waitUntilUp(job.signal);
    const { now } = await channel.agent.call(getStatus, {}, { signal: job.signal });
    const { allowedSkewSeconds } = await context.settingsOf(host);
    assertClock(host.name, instant(now), context.clock.now(), allowedSkewSeconds);
    return now - context.clock.now();
  };
  const [source, destination] = await Promise.all([ahead(from), ahead(to)]);
  const seconds = (milliseconds: number) => `${Math.round(milliseconds / 1000)} s`;
  report(`${from} ${seconds(source)} and ${to} ${seconds(destination)} ahead of the manager`);
  return { source: Math.max(0, source), destination: Math.max(0, destination) };
}
