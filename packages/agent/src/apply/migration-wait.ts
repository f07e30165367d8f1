import { describeError } from '@virt-trust/base/error.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { migrationsOf, restartWait, wordsOf } from './restart-wait.ts';
import type { StepContext } from './run.ts';
import { targetSockets } from './target-sockets.ts';

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
