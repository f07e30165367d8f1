import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { Host } from '../../hosts/host.ts';
import { requireHost } from '../../hosts/require-host.ts';
import type { JobDefinition } from '../../jobs/job.ts';
import { checkedPlan } from '../../migration/check-pair.ts';
import type { MigrationContext } from '../../migration/context.ts';
import { destinationsOf } from '../../migration/destinations.ts';
import type { EvacuationOrder } from '../../migration/evacuation.ts';
import { matrixOf } from '../../migration/matrix.ts';
import { type MigrationEnd, managedEnd, unmanagedEnd } from '../../migration/migration-end.ts';
import { enqueueMigration, type MigrationJob } from '../../migration/migration-job.ts';
import { withName } from '../../migration/named-vm.ts';
import { planMigration } from '../../migration/planning.ts';
import { unmanagedAddress } from '../../migration/unmanaged-hosts.ts';
import type { Actor, Handlers } from '../handlers.ts';

type MigrationOperations =
  | 'createMigrationJob'
  | 'planMigration'
  | 'getMigrationMatrix'
  | 'evacuateHost'
  | 'listUnmanagedHosts'
  | 'putUnmanagedHost'
  | 'deleteUnmanagedHost';

export interface MigrationHandlersParts {
  readonly context: MigrationContext;
  readonly migration: MigrationJob;
  readonly evacuation: JobDefinition<EvacuationOrder>;
}

/** The handlers for migrations, and for the hosts that only they know. */
export function migrationHandlers({
  context,
  migration,
  evacuation,
}: MigrationHandlersParts): Pick<Handlers, MigrationOperations> {
  /** SECURITY: what was asked for and refused is noted with who asked. */
  const noted = async <T>(
    actor: Actor,
    action: string,
    subject: string,
    work: () => Promise<T>,
  ): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      if (isTrustError(error) && ['conflict', 'denied'].includes(error.category)) {
        const entry = { actor: actor.auditName, action, subject, outcome: 'refused' } as const;
        await context.audit.append({ ...entry, detail: describeError(error) });
      }
      throw error;
    }
  };
  return {
    async createMigrationJob({ body, actor, idempotencyKey, signal }) {
      const order = await withName(body, context, signal);
      return await noted(actor, 'migrate', `${order.vm} from ${order.from} to ${order.to}`, () =>
        enqueueMigration(migration, order, { actor: actor.auditName, idempotencyKey }, context),
      );
    },
    async planMigration({ body, signal }) {
      const order = await withName(body, context, signal);
      return await checkedPlan(order, await planMigration(order, context), context, signal);
    },
    async getMigrationMatrix({ query, signal }) {
      const { cluster, probe } = query ?? {};
      return await matrixOf(await endsOf(cluster, context), context, { probe: probe === true, signal });
    },
    async evacuateHost({ params, body, actor, idempotencyKey }) {
      const host = await evacuable(params.name, context);
      const warnings = await noted(actor, 'host-evacuate', host.name, async () => {
        const destinations = await destinationsOf(host, body, 'each VM', context);
        // The safest first: what is sent another way in spite of that is said when it is.
        const safest = destinations[0]?.planned.decision.mode;
        return destinations.flatMap(({ planned: { decision } }) =>
          decision.mode === safest ? decision.warnings : [],
        );
      });
      return await context.jobs.enqueue(evacuation, {
        subject: host.name,
        payload: { host: host.name, order: body },
        actor: actor.auditName,
        locks: [`evacuation:${host.name}`],
        idempotencyKey,
        warnings: warnings.slice(0, 64),
      });
    },
    listUnmanagedHosts: async () => ({ items: [...(await context.unmanaged.list())] }),
    putUnmanagedHost: ({ params, body, actor }) =>
      noted(actor, 'host.add_unmanaged', params.name, () =>
        context.unmanaged.put(
          {
            name: params.name,
            cluster: body.cluster,
            address: unmanagedAddress(params.name, body.address),
          },
          actor.auditName,
        ),
      ),
    async deleteUnmanagedHost({ params, actor }) {
      if ((await context.unmanaged.find(params.name)) !== null)
        await context.forgetSettings(params.name, actor.auditName);
      await context.unmanaged.remove(params.name, actor.auditName);
      return undefined;
    },
  };
}

/** Every host of a cluster, or of all, with an agent or without one, by name. */
async function endsOf(cluster: string | undefined, context: MigrationContext): Promise<MigrationEnd[]> {
  const [hosts, unmanaged] = await Promise.all([context.repository.list(), context.unmanaged.list()]);
  return [...hosts.map(managedEnd), ...unmanaged.map(unmanagedEnd)]
    .filter(({ host }) => cluster === undefined || host.cluster === cluster)
    .toSorted((a, b) => (a.name < b.name ? -1 : 1));
}

/** Throws for a host whose VMs nobody can list. */
async function evacuable(name: string, context: MigrationContext): Promise<Host> {
  if ((await context.unmanaged.find(name)) !== null)
    throw new TrustError(
      'host.unmanaged',
      'conflict',
      `cannot empty ${name}: it has no agent that would say which VMs run there`,
      { hint: `migrate them one by one: virt-trust migrate VM --from ${name} --to HOST` },
    );
  return await requireHost(name, context);
}
