import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import { raisedRevisions } from '../hosts/revisions.ts';
import type { JobContext, JobDefinition } from '../jobs/job.ts';
import type { Freeze } from './freeze.ts';
import { type RenewalPlanner, type ServedPlan, servedBy } from './planner.ts';
import type { RenewalStore } from './renewal-store.ts';

/** Which certificates of a host are renewed: by service, the serial number that is served until then. */
export interface RenewOrder {
  readonly host: string;
  readonly serials: Readonly<Partial<Record<Service, string>>>;
  /** Somebody asked for it by name: no freeze holds it back, and its failure stops no wave. */
  readonly asked: boolean;
}

export interface RenewJobParts {
  readonly hosts: Pick<HostRepository, 'find' | 'update'>;
  readonly store: RenewalStore;
  readonly planner: RenewalPlanner;
  readonly freeze: Freeze;
  /** Of the manager's store; grows when it is restored from a backup. */
  readonly epoch: number;
  /** Brings the host to its desired state: new keys where revisions were raised, the old generation served until then. */
  readonly provision: (host: string, job: JobContext) => Promise<string>;
  /** After a renewal failed or succeeded. */
  readonly onOutcome: () => void;
}

/** Renews certificates of one host: raises their revisions, provisions, and sees that others are served. */
export function renewJob(parts: RenewJobParts): JobDefinition<RenewOrder> {
  return {
    kind: 'host-renew',
    async run(order, job) {
      const before = await requireManaged(order.host, parts);
      const services = await toRenew(before, order, job);
      if (services.length === 0) return `host ${order.host}: renewed before`;
      if ((await job.recall('revisions')) === undefined) await refuseWhereHeld(order, services, parts);
      try {
        await raise(before, services, parts, job);
        const told = await parts.provision(order.host, job);
        const plans = await parts.planner.refresh(order.host);
        assertRenewed(order, services, plans);
        await parts.store.succeeded(order.host, futileOf(services, plans), !order.asked);
        parts.onOutcome();
        return `renewed ${services.join(', ')}; ${told}`;
      } catch (error) {
        // Cancelled, or the manager stops: nothing that the host did.
        if (!job.signal.aborted && !isTrustError(error, 'host.joined'))
          await keepFailure(order, services, error, parts);
        throw error;
      }
    },
  };
}

async function requireManaged(name: string, { hosts }: RenewJobParts): Promise<Host> {
  const host = await hosts.find(name);
  if (host !== null && !host.observeOnly && host.state !== 'removing') return host;
  throw new TrustError(
    'renewal.host_gone',
    'conflict',
    `cannot renew certificates of host ${name}: it is not under management any more`,
  );
}

/** What the order asks for and is still served, or was being renewed when the manager stopped. */
async function toRenew(host: Host, { serials }: RenewOrder, job: JobContext): Promise<Service[]> {
  const services = Object.keys(serials) as Service[];
  if ((await job.recall('revisions')) !== undefined) return services;
  const served = servedBy(host);
  return services.filter((service) =>
    served.some((one) => one.service === service && one.serialNumber === serials[service]),
  );
}

async function refuseWhereHeld(
  order: RenewOrder,
  services: readonly Service[],
  parts: RenewJobParts,
): Promise<void> {
  if (!order.asked && (await parts.freeze.isFrozen())) {
    throw new TrustError(
      'renewal.frozen',
      'conflict',
      `cannot renew certificates of host ${order.host}: the fleet is frozen`,
      { hint: 'let it go on with: virt-trust unfreeze' },
    );
  }
  const plans = await parts.planner.refresh(order.host);
  const revoked = plans.filter((plan) => plan.revoked && services.includes(plan.service));
  if (revoked.length === 0) return;
  throw new TrustError(
    'renewal.revoked',
    'conflict',
    `cannot renew ${revoked.map(({ service }) => service).join(', ')} of host ${order.host}: revoked`,
    { hint: `once the host is trustworthy again: virt-trust host provision ${order.host} --renew` },
  );
}

/** To what was remembered before the first time, so that a second run raises nothing further. */
async function raise(
  host: Host,
  services: readonly Service[],
  { hosts, epoch }: RenewJobParts,
  job: JobContext,
): Promise<void> {
  const remembered = await job.recall('revisions');
  const targets =
    remembered === undefined
      ? raisedRevisions(host, services, epoch)
      : (remembered as Record<string, number>);
  if (remembered === undefined) await job.remember('revisions', targets);
  await hosts.update(host.id, (now) => {
    const raised = Object.entries(targets).map(([service, target]) => [
      service,
      Math.max(target, now.revisions[service as Service] ?? 0),
    ]);
    return { ...now, revisions: { ...now.revisions, ...Object.fromEntries(raised) } };
  });
}

function assertRenewed(
  { host, serials }: RenewOrder,
  services: readonly Service[],
  plans: readonly ServedPlan[],
): void {
  const old = services.filter((service) =>
    plans.some((plan) => plan.service === service && plan.serialNumber === serials[service]),
  );
  if (old.length === 0) return;
  throw new TrustError(
    'renewal.unchanged',
    'failed',
    `cannot renew ${old.join(', ')} of host ${host}: it still serves the certificate from before`,
    { hint: `see what the host says: virt-trust host show ${host}` },
  );
}

/** What is different still: renewing for it once more would go on for ever. */
function futileOf(services: readonly Service[], plans: readonly ServedPlan[]) {
  const of = (service: Service) => plans.find((plan) => plan.service === service)?.differences ?? [];
  return Object.fromEntries(services.map((service) => [service, of(service).join('; ')]));
}

async function keepFailure(
  order: RenewOrder,
  services: readonly Service[],
  error: unknown,
  { store, planner, freeze, onOutcome }: RenewJobParts,
): Promise<void> {
  await store.failed({
    host: order.host,
    services,
    message: describeError(error),
    counts: !order.asked,
  });
  await planner.refresh(order.host);
  if (!order.asked) await freeze.afterFailure();
  onOutcome();
}
