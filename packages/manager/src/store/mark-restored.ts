import type { Clock } from '@virt-trust/base/clock.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import { appendAudit } from './audit-log.ts';
import { holdCrls } from './crl-recovery-store.ts';
import type { Database } from './database.ts';
import { markRestored } from './manager-identity-store.ts';
import { integer } from './row.ts';

/** What became of a store that was restored. */
export interface Restored {
  /** Goes before each number that agents hold against replay. */
  readonly epoch: number;
  readonly hosts: number;
  /** Work that was under way when the backup was made, and will not go on by itself. */
  readonly jobsCancelled: number;
  /** Tokens that were valid then are valid again. */
  readonly tokens: number;
}

/** Tells a store that it was restored, in one transaction with the audit entry. */
export function markStoreRestored(database: Database, clock: Clock, detail: string): Restored {
  return database.transaction(() => {
    const known = database.get("select value from manager_numbers where name = 'epoch'");
    // Seconds, so that two restores of one backup differ too: the second would else go on with numbers that agents know.
    const epoch = Math.max(
      (known === undefined ? 0 : integer(known, 'value')) + 1,
      Math.floor(clock.now() / SECOND),
    );
    markRestored(database, epoch);
    holdCrls(database);
    const jobsCancelled = cancelJobs(database, clock);
    appendAudit(database, clock, [
      {
        actor: 'manager',
        action: 'manager.restore',
        subject: `epoch ${epoch}`,
        outcome: 'done',
        detail: `${detail}; ${jobsCancelled} jobs of then cancelled`,
      },
    ]);
    return { epoch, hosts: count(database, 'hosts'), jobsCancelled, tokens: count(database, 'tokens') };
  });
}

/** What somebody asked for before the backup has long been done, or is not wanted any more. */
function cancelJobs(database: Database, clock: Clock): number {
  const error = {
    code: 'job.restored',
    message: 'it was under way when the backup was made that this manager was restored from',
    hint: 'look at what it is about, and ask again where it is still wanted',
  };
  return database.run(
    "update jobs set state = 'cancelled', error = ?, finished_at = ?, revision = revision + 1 where state in ('queued', 'running')",
    JSON.stringify(error),
    clock.now(),
  );
}

function count(database: Database, table: 'hosts' | 'tokens'): number {
  return integer(database.get(`select count(*) as count from ${table}`) ?? {}, 'count');
}
