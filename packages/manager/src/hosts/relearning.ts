import { getDesiredState } from '@virt-trust/contract/agent/operations.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { Gate } from '@virt-trust/contract/model/gate.ts';
import type { ObservedState } from '@virt-trust/contract/model/observed-state.ts';
import type { HostChannel } from './channels.ts';
import { isPassed } from './gates.ts';
import type { FoundFacts, Host } from './host.ts';
import type { HostsContext } from './ports.ts';
import { believable } from './revisions.ts';

/**
 * Learns back from a host what this manager wanted of it before it was restored from a backup: which gates were passed
 * and which keys asked for, so that the next desired state takes nothing back. A host can so speak for itself alone.
 */
export async function relearn(
  host: Host,
  observed: Pick<ObservedState, 'epoch' | 'number'>,
  channel: HostChannel,
  context: HostsContext,
  signal: AbortSignal,
): Promise<void> {
  // What is of this epoch was made by this store; nothing at all was wanted of a host with number 0.
  if (observed.epoch === context.epoch || observed.number === 0) return;
  const desired = await channel.agent.call(getDesiredState, {}, { signal });
  if (desired === null) return;
  let learned: readonly string[] = [];
  await context.repository.update(host.id, (now) => {
    const after = relearned(now, desired);
    learned = differences(now, after);
    return learned.length === 0 ? now : after;
  });
  if (learned.length === 0) return;
  await context.audit.append({
    actor: 'manager',
    action: 'host.relearn',
    subject: host.name,
    outcome: 'done',
    detail: `wanted of it after the state that this manager was restored from: ${learned.join(', ')}`,
  });
}

/** The host with what a desired state of before says of it; pure. */
export function relearned(host: Host, desired: DesiredState): Host {
  const gates = gatesIn(desired, host.found).filter((gate) => !isPassed(host, gate));
  const revisions = Object.fromEntries(
    desired.credentials.map(({ service, revision }) => [
      service,
      Math.max(believable(revision), host.revisions[service] ?? 0),
    ]),
  );
  return {
    ...host,
    grantedGates: [...new Set([...host.grantedGates, ...gates])],
    revisions: { ...host.revisions, ...revisions },
  };
}

/** The gates without which this would not have been wanted. */
function gatesIn({ credentials, settings }: DesiredState, found: FoundFacts | null): Gate[] {
  if (found === null) return [];
  const every = (
    services: FoundFacts['identities'],
    is: (credential: DesiredState['credentials'][number]) => boolean,
  ) => {
    const concerned = credentials.filter(({ service }) => services.includes(service));
    return concerned.length > 0 && concerned.every(is);
  };
  const gates: Gate[] = [];
  if (every(found.identities, ({ identity }) => identity === 'ours')) gates.push('serve');
  if (every(found.authorities, ({ keepFoundTrust }) => !keepFoundTrust)) gates.push('retire-found-ca');
  if (settings.plainTcp === 'off') gates.push('plain-tcp-off');
  if (settings.vncTls === 'on') gates.push('vnc-tls');
  return gates;
}

function differences(before: Host, after: Host): string[] {
  const gates = after.grantedGates.filter((gate) => !before.grantedGates.includes(gate));
  const raised = Object.entries(after.revisions).filter(
    ([service, revision]) => revision !== (before.revisions[service as keyof Host['revisions']] ?? 0),
  );
  return [
    ...gates.map((gate) => `gate ${gate}`),
    ...raised.map(([service, revision]) => `revision ${revision} of ${service}`),
  ];
}
