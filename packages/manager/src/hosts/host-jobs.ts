import { TrustError } from '@virt-trust/base/error.ts';
import type { Gate } from '@virt-trust/contract/model/gate.ts';
import type { AddHost } from '@virt-trust/contract/model/host.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import type { JobContext, JobDefinition } from '../jobs/job.ts';
import { acceptHostKey } from './accept-host-key.ts';
import { collect } from './collect.ts';
import { dialAtNewPlace, type Move } from './dial-at-new-place.ts';
import { enrol } from './enrolment.ts';
import { assertPassable, gateStates } from './gates.ts';
import type { Host } from './host.ts';
import { rollAgentKey } from './key-rollover.ts';
import type { ManagerIdentity } from './manager-identity.ts';
import { rollManagerKey } from './manager-rollover.ts';
import { knownUnmanaged } from './name-conflict.ts';
import type { HostsContext } from './ports.ts';
import { provision } from './provisioning.ts';
import { removeHost } from './removal.ts';
import { requireHost } from './require-host.ts';
import { raisedRevisions } from './revisions.ts';

/** What a host is brought right for. */
export interface ProvisionOrder {
  readonly host: string;
  readonly renew: boolean;
  /** The time of the revocation that is taken back with it. */
  readonly lifts?: number;
  /** Somebody has just said that it is elsewhere. */
  readonly moved?: Move;
  /** Kind of CA. */
  readonly provider?: string;
  /** Dials the channel anew, and proves every endpoint again. */
  readonly reconnect?: boolean;
}

/** The jobs that work on hosts, by what they do. */
export function hostJobs(context: HostsContext, identity: ManagerIdentity) {
  const add: JobDefinition<{ order: AddHost; hostKey: string }> = {
    kind: 'host-add',
    async run({ order, hostKey }, job) {
      const host = await enrol(order, hostKey, context, job);
      if (!host.observeOnly) return provision(host.name, context, job);
      await (await context.channels.of(host)).waitUntilUp(job.signal, 60_000);
      return `host ${host.name} is observed; nothing on it was changed`;
    },
  };
  const provisionJob: JobDefinition<ProvisionOrder> = {
    kind: 'host-provision',
    async run({ host: name, renew, lifts, moved, provider, reconnect = false }, job) {
      const host = await requireHost(name, context);
      if (moved !== undefined) {
        await dialAtNewPlace(host, moved, context, job);
        if (host.observeOnly) return `host ${name} is observed at ${moved.to.address}`;
      }
      assertManaged(host);
      await liftRevocation(host, lifts, context, job);
      if (renew && (await job.recall('raised')) === undefined) {
        await job.remember('raised', true);
        await context.repository.update(host.id, (now) => ({
          ...now,
          revisions: raisedRevisions(now, SERVICES, context.epoch),
        }));
      }
      return provision(name, context, job, { reconnect, ...(provider === undefined ? {} : { provider }) });
    },
  };
  const gateJob: JobDefinition<{ host: string; gate: Gate; force: boolean }> = {
    kind: 'host-gate',
    async run({ host: name, gate, force }, job) {
      const host = await requireHost(name, context);
      assertManaged(host);
      await job.step(`Pass gate ${gate}`, async (report) => {
        if (host.grantedGates.includes(gate)) return report('passed before');
        // What speaks against it is asked of the host as it is now, not as it once was.
        const now = await collect(name, context, job.signal);
        const fleet = (await context.repository.list()).filter((peer) => peer.cluster === now.cluster);
        const state = gateStates(now, fleet).find((candidate) => candidate.gate === gate);
        if (state !== undefined) assertPassable(state, name, force);
        if (state?.state === 'not-needed') return report('nothing was found there that it would take away');
        await context.repository.update(now.id, (latest) => ({
          ...latest,
          grantedGates: [...new Set([...latest.grantedGates, gate])],
        }));
        await context.audit.append({
          actor: job.actor,
          action: 'host.gate',
          subject: name,
          outcome: 'done',
          detail: force ? `${gate}, forced` : gate,
        });
        report(force ? 'passed by force' : 'passed');
      });
      return provision(name, context, job);
    },
  };
  const remove: JobDefinition<{ host: string; force: boolean }> = {
    kind: 'host-remove',
    cancellable: false,
    run: ({ host, force }, job) => removeHost(host, force, context, job),
  };
  const roll: JobDefinition<{ host: string | null; compromised?: boolean }> = {
    kind: 'key-rollover',
    cancellable: false,
    run: ({ host, compromised = false }, job) =>
      host === null
        ? rollManagerKey(identity, compromised, context, job)
        : rollAgentKey(host, compromised, context, job),
  };
  return { add, provision: provisionJob, gate: gateJob, remove, roll };
}

/**
 * A host that was revoked is taken back with new keys. SECURITY: only from the revocation that there was when it was
 * asked for; a later one stands.
 */
async function liftRevocation(
  host: Host,
  lifts: number | undefined,
  context: HostsContext,
  job: JobContext,
): Promise<void> {
  if (host.revoked === undefined || host.revoked.at !== lifts) return;
  await job.step('Take the host back', async () => {
    await context.audit.append({
      actor: job.actor,
      action: 'host.lift',
      subject: host.name,
      outcome: 'done',
      detail: `provisioned by name: it gets new keys and certificates`,
    });
    await context.revocations.lift(host.name);
    await context.repository.update(host.id, ({ revoked, ...now }) =>
      revoked === undefined || revoked.at !== lifts
        ? { ...now, ...(revoked && { revoked }) }
        : { ...now, revisions: raisedRevisions(now, SERVICES, context.epoch) },
    );
  });
}

/** Throws `host.observe_only` for a host on which nothing is to be changed. */
export function assertManaged(host: Host): void {
  if (!host.observeOnly) return;
  throw new TrustError(
    'host.observe_only',
    'conflict',
    `cannot change host ${host.name}: it was added to be observed only`,
    {
      hint: `take it under management with: virt-trust host add ${host.name} --ssh ${host.ssh.destination}`,
    },
  );
}

/** Checks what can be checked before a job is made of it; returns the accepted SSH host key. */
export async function prepareAdd(
  order: AddHost,
  context: HostsContext,
  signal: AbortSignal,
): Promise<string> {
  const known = await context.repository.find(order.name);
  // Recording it would refuse that too, with the agent installed already.
  if ((await context.repository.unmanagedAddress(order.name)) !== null) throw knownUnmanaged(order.name);
  if (known !== null && known.ssh.destination !== order.ssh.destination) {
    throw new TrustError(
      'host.name_taken',
      'conflict',
      `cannot add host ${order.name}: a host of that name is reached as ${known.ssh.destination}`,
      {
        hint: `choose another name, or remove that one first: virt-trust host remove ${order.name}`,
      },
    );
  }
  if (known !== null && !known.observeOnly && order.observe === true) {
    throw new TrustError(
      'host.managed',
      'conflict',
      `cannot only observe host ${order.name}: it is under management`,
      {
        hint: `give it back first: virt-trust host remove ${order.name}`,
      },
    );
  }
  return acceptHostKey(order, known, signal);
}
