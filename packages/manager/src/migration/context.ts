import type { EventLog } from '../events/event-log.ts';
import type { HostsContext } from '../hosts/ports.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import type { Settings } from '../settings/settings.ts';
import type { UnmanagedHostStore } from './unmanaged-hosts.ts';

/** What the work on migrations needs of the rest of the manager. */
export interface MigrationContext extends HostsContext {
  readonly settings: Pick<Settings, 'value' | 'explain'>;
  readonly unmanaged: UnmanagedHostStore;
  readonly events: Pick<EventLog, 'publish'>;
  readonly jobs: Pick<JobRunner, 'enqueue' | 'cancel' | 'get' | 'follow'>;
}
