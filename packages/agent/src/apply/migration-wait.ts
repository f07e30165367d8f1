import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant, instant, SECOND } from '@virt-trust/base/instant.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { Pending } from '@virt-trust/contract/model/observed-state.ts';
import { targetSockets } from './forward-steps.ts';
import type { StepContext } from './run.ts';
import type { RunningMigration } from './running-migrations.ts';
import type { Workshop } from './workshop.ts';

/** A restart of the libvirt daemon that would cut running migrations off, and waits for their end. */
export interface RestartWait {
  readonly migrations: readonly RunningMigration[];
  /** When it goes on anyway. */
  readonly until: Instant;
}

/** Steps at which the daemon is restarted, where it needs to be. */
const RESTARTING: ReadonlySet<string | undefined> = new Set([
  'await-migrations',
  'bring-daemon',
  'back-daemon',
  'remove-daemon',
]);

/** Whether a step may restart the daemon at any moment. */
export function isRestarting(step: string | undefined): boolean {
  return RESTARTING.has(step);
}

/**
 * Waits until no migration runs on this host, at most for the limit of the desired state, counted from when the first
 * restart came to wait. Certificates that running daemons can load without harm are loaded before.
 */
export async function awaitMigrations(context: StepContext): Promise<void> {
  if (!(await restartsDaemon(context))) return;
  const { workshop, journal } = context;
  const { effects, emit, clock, log } = workshop.options;
  try {
    for (let waited = false; ; waited = true) {
      const changed = context.changed();
      const wait = await restartWait(workshop, context.waitSeconds());
      if (wait === undefined) {
        if (waited)
          await emit('apply.migrations_over', 'libvirt', 'no migration runs here any more; going on');
        break;
      }
      if (wait.until <= clock.now()) {
        await emit(
          'apply.migrations_cut',
          'libvirt',
          `restarts in spite of ${migrationsOf(wait)}: it has waited for as long as it may`,
        );
        break;
      }
      if (!waited) {
        await emit('apply.migrations_awaited', 'libvirt', wordsOf(wait));
        for (const { service, from } of journal.kind === 'applying' ? journal.transitions : [])
          if (from !== null)
            await effects
              .reload(service, context.facts)
              .catch((error) => log.info({ service, reason: describeError(error) }, 'not reloaded yet'));
      }
      context.waits(wait);
      context.checkWaiting();
      const stop = new AbortController();
      const limit = setTimeout(() => stop.abort(), Math.min(wait.until - clock.now(), LONGEST_TIMER_MS));
      void changed.then(() => stop.abort());
      await effects.migrationsChange(stop.signal);
      clearTimeout(limit);
    }
  } finally {
    context.waits(undefined);
  }
  // VMs have come and gone.
  context.facts = await effects.facts();
}

const LONGEST_TIMER_MS = 86_400_000;

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

/** Whether the step that follows restarts the daemon at all. */
async function restartsDaemon({ workshop, journal, facts }: StepContext): Promise<boolean> {
  if (journal.kind === 'going-back' || journal.settingsChanged) return true;
  const manifest = await workshop.found.read();
  if (manifest === undefined) return true;
  const wanted =
    journal.desired === null
      ? (manifest.sockets ?? facts.sockets)
      : targetSockets(journal.desired as DesiredState, manifest, facts);
  return JSON.stringify(wanted) !== JSON.stringify(facts.sockets);
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

function wordsOf(wait: RestartWait): string {
  return `waits for ${migrationsOf(wait)}, until ${formatInstant(wait.until)} at the latest`;
}

/** The migrations that a restart would cut off, by name. */
export function migrationsOf({ migrations }: RestartWait): string {
  const named = migrations.slice(0, 8).map(({ vm, direction }) => `${vm} (${direction})`);
  const more = migrations.length > named.length ? ` and ${migrations.length - named.length} more` : '';
  return `the migration of ${named.join(', ')}${more}`.slice(0, 2000);
}
