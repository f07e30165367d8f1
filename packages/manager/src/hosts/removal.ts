import { setTimeout as delay } from 'node:timers/promises';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { getObservedState, postRemoval } from '@virt-trust/contract/agent/operations.ts';
import type { ResultOf } from '@virt-trust/contract/operation.ts';
import type { JobContext } from '../jobs/job.ts';
import { agentGone } from './agent-gone.ts';
import { type HostChannel, isChannelLost } from './channels.ts';
import { CHANNEL_TIMEOUT_MS } from './following.ts';
import type { Host } from './host.ts';
import { Patience } from './patience.ts';
import type { HostsContext } from './ports.ts';
import { requireHost } from './require-host.ts';

/** How long a host may take to give everything back. */
const RESTORE_TIMEOUT_MS = 5 * 60_000;
const LOOK_AT_WAIT_MS = 5000;

/** Gives a host back what was found on it, then forgets it; with `force` it is forgotten even where it is away. */
export async function removeHost(
  hostName: string,
  force: boolean,
  context: HostsContext,
  job: JobContext,
): Promise<string> {
  const host = await context.repository.find(hostName);
  if (host === null && (await job.recall('restored')) !== undefined) return `host ${hostName} is removed`;
  const known = host ?? (await requireHost(hostName, context));
  const told = await job.step('Give the host back what was found on it', (report) =>
    restore(known, force, context, job, report),
  );
  await job.step('Revoke its certificates', async (report) => {
    const count = await context.revocations.retire(
      known,
      { actor: job.actor, origin: job.id, comment: `host ${hostName} was removed` },
      job.signal,
    );
    report(`${count} certificates`);
  });
  await job.step('Forget the host', async (report) => {
    await agentGone(await context.channels.of(known), job.signal);
    await context.channels.forget(known.id);
    const settings = await context.forgetSettings(known.name, job.actor);
    if (settings.length > 0) report(`with what was set for it: ${settings.join(', ')}`);
    await context.repository.remove(known.id);
  });
  return told;
}

async function restore(
  host: Host,
  force: boolean,
  context: HostsContext,
  job: JobContext,
  report: (detail: string) => void,
): Promise<string> {
  const done = await job.recall('restored');
  if (typeof done === 'string') return done;
  await context.repository.update(host.id, (now) => ({ ...now, state: 'removing', reason: null }));
  const told = await restoreOverChannel(host, context, job, report).catch((error: unknown) => {
    job.signal.throwIfAborted();
    if (!force) throw away(host, error);
    return `host ${host.name} was forgotten and not restored: ${describeError(error)}; on the host itself: virt-trust agent remove`;
  });
  report(told.slice(0, 4000));
  await job.remember('restored', told);
  return told;
}

function away(host: Host, error: unknown): TrustError {
  if (isTrustError(error) && error.category !== 'unavailable') return error;
  return new TrustError(
    'host.away',
    'unavailable',
    `cannot restore host ${host.name}: ${describeError(error)}`,
    {
      cause: error,
      hint: `bring the host up and run the same command again, or forget it with: virt-trust host remove ${host.name} --force`,
    },
  );
}

async function restoreOverChannel(
  host: Host,
  context: HostsContext,
  job: JobContext,
  report: (detail: string) => void,
): Promise<string> {
  const channel = await context.channels.of(host);
  using patience = new Patience(RESTORE_TIMEOUT_MS, context.clock);
  const over = new AbortController();
  const signal = AbortSignal.any([job.signal, patience.signal]);
  const watching = letWait(channel, patience, report, AbortSignal.any([signal, over.signal]));
  const answer = await askToRestore(channel, signal).finally(() => over.abort());
  await watching;
  const left = [...answer.left, ...(await estranged(host, context))];
  const told = left.length === 0 ? '' : `; left: ${left.join('; ')}`;
  return `host ${host.name}: ${answer.restored.length} things restored${told}`;
}

/** A host that waits for migrations to end before it is changed says until when. */
async function letWait(
  { agent }: HostChannel,
  patience: Patience,
  report: (detail: string) => void,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    // A channel that is down is waited for elsewhere.
    const observed = await agent.call(getObservedState, {}, { signal }).catch(() => null);
    const wait = observed?.pending.find(({ until }) => until !== undefined);
    if (wait?.until !== undefined) {
      patience.extend(wait.until);
      report(`${wait.what} ${wait.why}`);
    }
    await delay(LOOK_AT_WAIT_MS, undefined, { signal, ref: false }).catch(() => {});
  }
}

/** Peers that serve our certificates, which a host with its own CA back trusts no longer. */
async function estranged(host: Host, context: HostsContext): Promise<string[]> {
  if ((host.found?.authorities.length ?? 0) === 0) return [];
  const fleet = await context.repository.list();
  return fleet
    .filter((peer) => peer.cluster === host.cluster && peer.id !== host.id)
    .filter(
      (peer) => peer.observed?.credentials.some((credential) => credential.identity === 'ours') === true,
    )
    .map(
      (peer) =>
        `host ${peer.name} serves certificates that ${host.name} trusts no longer, so TLS from ${host.name} to it fails until it is removed too`,
    );
}

/** Asks again where the channel broke meanwhile: an agent that was killed goes on, and answers with all it did. */
async function askToRestore(
  channel: HostChannel,
  signal: AbortSignal,
): Promise<ResultOf<typeof postRemoval>> {
  await channel.waitUntilUp(signal);
  for (;;) {
    try {
      return await channel.agent.call(postRemoval, {}, { signal });
    } catch (error) {
      if (!isChannelLost(error)) throw error;
    }
    await channel.waitUntilUp(signal, CHANNEL_TIMEOUT_MS);
  }
}
