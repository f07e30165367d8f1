import { TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant, instant, SECOND } from '@virt-trust/base/instant.ts';
import type { Pending } from '@virt-trust/contract/model/observed-state.ts';
import type { Workshop } from '../served/workshop.ts';
import type { RunningMigration } from '../services/running-migrations.ts';

/** A restart of the libvirt daemon that would cut running migrations off, and waits for their end. */
export interface RestartWait {
  readonly migrations: readonly RunningMigration[];
  /** When it goes on anyway. */
  readonly until: Instant;
}

/** What a restart has to wait for, and since when it does; undefined where nothing holds it up. */
export async function restartWait(workshop: Workshop, seconds: number): Promise<RestartWait | undefined> {
  const { effects, clock } = workshop.options;
  const migrations = await effects.migrations();
  if (migrations.length === 0) return undefined;
  const now = clock.now();
  const known = await workshop.waiting.read();
  // A clock that was set back must not make the wait longer.
  const since = known === undefined || known.since > now ? now : known.since;
  if (known?.since !== since) await workshop.waiting.write({ since });
  return { migrations, until: instant(since + seconds * SECOND) };
}

/** A wait as it is shown. */
export function pendingOf(wait: RestartWait | undefined): Pending[] {
  if (wait === undefined) return [];
  return [
    {
      what: 'restart of the libvirt daemon',
      why: wordsOf(wait),
      action: 'nothing: it goes on by itself; sooner where the setting migration.reload_wait is lowered',
      until: wait.until,
    },
  ];
}

/** What a migration that is to begin here is told where the daemon's restart goes first. */
export function restartDue(wait: RestartWait): TrustError {
  return new TrustError(
    'migration.restart_due',
    'conflict',
    `cannot begin a migration on this host: the libvirt daemon's restart goes first; it ${wordsOf(wait)}`,
    {
      hint: 'try again once they are over: virt-trust host show NAME says what is awaited, and until when',
      context: { until: wait.until },
    },
  );
}

/** What a restart waits for and until when, for people: begins with `waits`. */
export function wordsOf(wait: RestartWait): string {
  return `waits for ${migrationsOf(wait)}, until ${formatInstant(wait.until)} at the latest`;
}

/** The migrations that a restart would cut off, by name. */
export function migrationsOf({ migrations }: RestartWait): string {
  const named = migrations.slice(0, 8).map(({ vm, direction }) => `${vm} (${direction})`);
  const more = migrations.length > named.length ? ` and ${migrations.length - named.length} more` : '';
  return `the migration of ${named.join(', ')}${more}`.slice(0, 2000);
}
