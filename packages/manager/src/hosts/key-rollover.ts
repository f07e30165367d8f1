import { TrustError } from '@virt-trust/base/error.ts';
import { parseSpkiPin, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import {
  activateIdentity,
  announceIdentity,
  getIdentity,
  retireIdentity,
} from '@virt-trust/contract/agent/identity-operations.ts';
import type { JobContext } from '../jobs/job.ts';
import type { HostChannel } from './channels.ts';
import { refuseKeysOfOthers } from './keys-of-others.ts';
import type { HostsContext } from './ports.ts';
import { requireHost } from './require-host.ts';

/**
 * Replaces an agent's channel key by its standby over the channel: pinned beside the old, used, the old one destroyed, a
 * new standby made and pinned. `compromised` does it twice, so that neither of the keys that lay on the disk is left.
 */
export async function rollAgentKey(
  hostName: string,
  compromised: boolean,
  context: HostsContext,
  job: JobContext,
): Promise<string> {
  for (const round of compromised ? ['1', '2'] : ['1']) {
    if ((await job.recall(`done ${round}`)) === true) continue;
    await rollOnce(hostName, round, context, job);
    await job.remember(`done ${round}`, true);
  }
  const { agentPins } = await requireHost(hostName, context);
  return `host ${hostName} is known by ${agentPins[0]} now`;
}

async function rollOnce(
  hostName: string,
  round: string,
  context: HostsContext,
  job: JobContext,
): Promise<void> {
  const before = await requireHost(hostName, context);
  const channel = await context.channels.of(before);
  await channel.waitUntilUp(job.signal, 60_000);
  const next = await job.step('Announce the next key', async (report) => {
    const remembered = await job.recall(`target ${round}`);
    const pin =
      typeof remembered === 'string'
        ? parseSpkiPin(remembered)
        : await standbyOf(channel, hostName, job.signal);
    report(pin);
    await refuseKeysOfOthers(before, [pin], context.repository);
    // Both are trusted before the agent uses the new one: a crash from here on cuts nobody off.
    await context.repository.update(before.id, (now) => ({
      ...now,
      agentPins: [...new Set([...now.agentPins, pin])],
    }));
    await job.remember(`target ${round}`, pin);
    return pin;
  });
  const both = await requireHost(hostName, context);
  await context.channels.of(both);
  await job.step('Use the next key', async (report) => {
    await channel.agent.call(activateIdentity, { body: { pin: next } }, { signal: job.signal });
    await context.channels.redial(both);
    await channel.waitUntilUp(job.signal, 60_000);
    const { state } = channel;
    if (state.kind !== 'up' || state.peerPin !== next) {
      throw new TrustError(
        'rollover.not_used',
        'failed',
        `cannot roll the key of host ${hostName}: the agent still shows another`,
        { hint: 'run the same command again' },
      );
    }
    report(`seen in the handshake, ${state.group}`);
  });
  await job.step('Retire the old key', async () => {
    const { previous } = await channel.agent.call(getIdentity, {}, { signal: job.signal });
    if (previous !== null)
      await channel.agent.call(retireIdentity, { body: { pin: previous } }, { signal: job.signal });
    const standby = await standbyOf(channel, hostName, job.signal);
    await refuseKeysOfOthers(both, [standby], context.repository);
    await context.channels.of(
      await context.repository.update(both.id, (now) => ({ ...now, agentPins: [next, standby] })),
    );
  });
}

/** The key that the agent will use next, made where there is none. */
async function standbyOf(channel: HostChannel, hostName: string, signal: AbortSignal): Promise<SpkiPin> {
  const { next } = await channel.agent.call(announceIdentity, {}, { signal });
  if (next !== null) return parseSpkiPin(next);
  throw new TrustError(
    'rollover.no_next_key',
    'failed',
    `cannot roll the key of host ${hostName}: the agent announced none`,
  );
}
