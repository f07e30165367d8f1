import { describeError } from '@virt-trust/base/error.ts';
import { getStatus, listEvents } from '@virt-trust/contract/agent/operations.ts';
import type { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type { Host } from '../hosts/host.ts';
import type { MigrationContext } from './context.ts';
import { takeGrantsBack } from './grants.ts';

const CALL_MS = 20_000;
const CHANNEL_WAIT_MS = 10_000;
/** The newest events of a host among which it is looked for: it happened just now. */
const EVENTS = 1000;
const TEXT = 8000;

/**
 * How a migration ended, with why its destination cut the source off where it did: the source only sees a connection that
 * is closed. SECURITY: in the words of the destination, to its manager; what a source says of that is no proof of anything.
 */
export async function withCutOff(
  status: MigrationStatus,
  { from, to }: Pick<MigrationOrder, 'from' | 'to'>,
  hosts: readonly Host[],
  context: MigrationContext,
): Promise<MigrationStatus> {
  const destination = hosts.find(({ name }) => name === to);
  const failed = status.phase === 'failed' || status.phase === 'operator-needed';
  if (status.mode !== 'pinned' || !failed || destination === undefined) return status;
  // Its agent puts away what there is of the migration with the grant, and has said by then what became of it.
  await takeGrantsBack(status.id, [destination], context);
  const why = await cutOffOf(status.id, destination, context);
  if (why === null) return status;
  const said = status.error?.message ?? '';
  const message = `${said}${said === '' ? '' : '; '}the agent on ${to} says: ${why}`.slice(0, TEXT);
  const hint = `it is a fault of virt-trust, or somebody has the key of ${from}: see virt-trust audit list, look into ${from}, and in doubt: virt-trust host revoke ${from}`;
  return { ...status, error: { message, hint } };
}

async function cutOffOf(id: string, host: Host, { channels, log }: MigrationContext): Promise<string | null> {
  const signal = AbortSignal.timeout(CALL_MS);
  try {
    const channel = await channels.of(host);
    await channel.waitUntilUp(signal, CHANNEL_WAIT_MS);
    const { lastEvent } = await channel.agent.call(getStatus, {}, { signal });
    const query = { after: Math.max(0, lastEvent - EVENTS), limit: EVENTS };
    const { events } = await channel.agent.call(listEvents, { query }, { signal });
    const told = events.filter(({ kind, subject }) => kind === 'migration.cut_off' && subject === id);
    return told.at(-1)?.message ?? null;
  } catch (error) {
    log.warn({ host: host.name, reason: describeError(error) }, 'nobody said whether the source was cut off');
    return null;
  }
}
