import { describeError } from '@virt-trust/base/error.ts';
import type { Core } from './core.ts';
import type { HostsContext } from './hosts/ports.ts';
import { migrationHandlers } from './http/handlers/migrations.ts';
import type { Handlers } from './http/handlers.ts';
import type { MigrationContext } from './migration/context.ts';
import { evacuationJob } from './migration/evacuation.ts';
import { sweepGrants } from './migration/grants.ts';
import { migrationJob } from './migration/migration-job.ts';
import { SqliteUnmanagedHostStore } from './store/unmanaged-host-store.ts';

/** Migrations, and the hosts that only they know. */
export interface MigrationDomain {
  readonly handlers: Partial<Handlers>;
  /** The cluster of a host without an agent; undefined where there is none of that name. */
  clusterOf(host: string): Promise<string | undefined>;
  /** Whether a host without an agent is in a cluster. */
  isInCluster(cluster: string): Promise<boolean>;
  /** The channel of a host is up. */
  greeted(hostName: string): void;
}

export function composeMigration(core: Core, hosts: HostsContext): MigrationDomain {
  const unmanaged = new SqliteUnmanagedHostStore(core.database, core.clock);
  const { settings, jobs, events } = core;
  const context: MigrationContext = { ...hosts, settings, unmanaged, jobs, events };
  const migration = migrationJob(context);
  const evacuation = evacuationJob(context, migration);
  core.jobs.register(migration);
  core.jobs.register(evacuation);
  return {
    handlers: migrationHandlers({ context, migration, evacuation }),
    clusterOf: async (name) => (await unmanaged.find(name))?.cluster,
    isInCluster: async (name) => (await unmanaged.list()).some(({ cluster }) => cluster === name),
    greeted(name) {
      const signal = AbortSignal.any([core.signal, AbortSignal.timeout(SWEEP_MS)]);
      hosts.repository
        .find(name)
        .then((host) => (host === null ? undefined : sweepGrants(host, context, signal)))
        .catch((error: unknown) =>
          core.log.warn(
            { host: name, reason: describeError(error) },
            'grants that are left were not looked for',
          ),
        );
    },
  };
}

const SWEEP_MS = 60_000;
