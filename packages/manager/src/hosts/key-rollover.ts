import { TrustError } from '@virt-trust/base/error.ts';
import { parseSpkiPin } from '@virt-trust/base/spki-pin.ts';
import { activateIdentity, announceIdentity, retireIdentity } from '@virt-trust/contract/agent/operations.ts';
import type { JobContext } from '../jobs/job.ts';
import type { HostsContext } from './ports.ts';
import { requireHost } from './require-host.ts';

/** Replaces an agent's channel key over the channel: announced, pinned beside the old, used, the old one destroyed. */
export async function rollAgentKey(
  hostName: string,
  context: HostsContext,
  job: JobContext,
): Promise<string> {
  const before = await requireHost(hostName, context);
  const channel = await context.channels.of(before);
  await channel.waitUntilUp(job.signal, 60_000);
  const next = await job.step('Announce the next key', async (report) => {
    const identity = await channel.agent.call(announceIdentity, {}, { signal: job.signal });
    if (identity.next === null)
      throw new TrustError(
        'rollover.no_next_key',
        'failed',
        `cannot roll the key of host ${hostName}: the agent announced none`,
      );
    report(identity.next);
    const pin = parseSpkiPin(identity.next);
    // Both are trusted before the agent uses the new one: a crash from here on cuts nobody off.
    await context.repository.update(before.id, (now) => ({
      ...now,
      agentPins: [...new Set([...now.agentPins, pin])],
    }));
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
    for (const old of both.agentPins.filter((pin) => pin !== next)) {
      await channel.agent.call(retireIdentity, { body: { pin: old } }, { signal: job.signal });
    }
    await context.channels.of(
      await context.repository.update(both.id, (now) => ({ ...now, agentPins: [next] })),
    );
  });
  return `host ${hostName} is known by ${next} now`;
}
