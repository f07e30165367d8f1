import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { parseSpkiPin, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { putManagers } from '@virt-trust/contract/agent/identity-operations.ts';
import type { ManagerPins } from '@virt-trust/contract/model/agent-identity.ts';
import type { JobContext } from '../jobs/job.ts';
import type { Host } from './host.ts';
import type { ManagerIdentity } from './manager-identity.ts';
import type { HostsContext } from './ports.ts';

/**
 * Replaces the manager's key by its standby on every host, over the channels: announced everywhere (as it long is), then
 * used, then the old one let go everywhere. A host that is away stops it before anything is taken away from anybody.
 * `compromised` does it twice, so that neither of the two keys that lay on the disk is left.
 */
export async function rollManagerKey(
  identity: ManagerIdentity,
  compromised: boolean,
  context: HostsContext,
  job: JobContext,
): Promise<string> {
  for (const round of compromised ? ['1', '2'] : ['1']) {
    if ((await job.recall(`done ${round}`)) === true) continue;
    await rollTo(await targetOf(round, identity, job), identity, context, job);
    await job.remember(`done ${round}`, true);
  }
  const hosts = await context.repository.list();
  return `the manager is known by ${identity.current.pin} now on ${hosts.length} hosts`;
}

/** Remembered, so that a job that was killed rolls no further than it was asked to. */
async function targetOf(round: string, identity: ManagerIdentity, job: JobContext): Promise<SpkiPin> {
  const remembered = await job.recall(`target ${round}`);
  if (typeof remembered === 'string') return parseSpkiPin(remembered);
  const next = identity.all[1]?.pin ?? identity.current.pin;
  await job.remember(`target ${round}`, next);
  return next;
}

async function rollTo(
  target: SpkiPin,
  identity: ManagerIdentity,
  context: HostsContext,
  job: JobContext,
): Promise<void> {
  const hosts = await context.repository.list();
  await job.step('Announce the next key to every host', async (report) => {
    await tellAll(hosts, identity, context, job);
    report(`${hosts.length} hosts`);
  });
  await job.step('Use the next key', async (report) => {
    await identity.useNext(target);
    context.channels.useIdentities(identity.all);
    // A channel that does not come up under it goes on with the former key, and its host is told below.
    await Promise.allSettled(hosts.map((host) => context.channels.redial(host)));
    report(target);
  });
  await job.step('Retire the old key on every host', async () => {
    await identity.retire();
    context.channels.useIdentities(identity.all);
    await tellAll(hosts, identity, context, job);
  });
}

async function tellAll(
  hosts: readonly Host[],
  identity: ManagerIdentity,
  context: HostsContext,
  job: JobContext,
): Promise<void> {
  const pins = await identity.managerPins();
  const outcomes = await Promise.all(hosts.map((host) => tell(host, pins, context, job)));
  const away = outcomes.filter((outcome) => outcome !== null);
  if (away.length === 0) return;
  throw new TrustError(
    'rollover.hosts_away',
    'unavailable',
    `cannot roll the manager's key: ${away.join('; ')}`,
    {
      hint: 'bring these hosts up, or remove them with --force, and run the same command again; both keys are trusted until then',
    },
  );
}

async function tell(
  host: Host,
  pins: ManagerPins,
  context: HostsContext,
  job: JobContext,
): Promise<string | null> {
  try {
    const channel = await context.channels.of(host);
    await channel.waitUntilUp(job.signal);
    await channel.agent.call(putManagers, { body: pins }, { signal: job.signal });
    return null;
  } catch (error) {
    job.signal.throwIfAborted();
    return `host ${host.name}: ${describeError(error)}`;
  }
}
