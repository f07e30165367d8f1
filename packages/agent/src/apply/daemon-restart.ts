import { pendingOf, type RestartWait, restartDue } from './restart-wait.ts';

/** Steps that may restart the daemon at any moment. */
const RESTARTING: ReadonlySet<string | undefined> = new Set([
  'await-migrations',
  'bring-daemon',
  'back-daemon',
  'remove-daemon',
]);

function isRestarting(step: string | undefined): boolean {
  return RESTARTING.has(step);
}

/** A daemon that takes longer to restart holds no migration up: that will say so itself. */
const RESTART_MS = 60_000;
const LOOK_MS = 100;

/** What the engine knows of its own work. */
export interface RestartParts {
  /** The step that is done now; undefined while nothing is under way. */
  readonly step: () => string | undefined;
  readonly isStopped: () => boolean;
  /** Called when a restart begins or ceases to wait for migrations. */
  readonly onWait: () => void;
}

/** A restart of libvirt's daemon and the migrations of this host, one after the other. */
export class DaemonRestart {
  readonly #parts: RestartParts;
  #wait: RestartWait | undefined;

  constructor(parts: RestartParts) {
    this.#parts = parts;
  }

  /** What it waits for; undefined where none is due or nothing holds it up. */
  get wait(): RestartWait | undefined {
    return this.#wait;
  }

  setWait(wait: RestartWait | undefined): void {
    if (JSON.stringify(wait) === JSON.stringify(this.#wait)) return;
    this.#wait = wait;
    this.#parts.onWait();
  }

  /** What waits, in words. */
  words(): string[] {
    return pendingOf(this.#wait).map(({ what, why }) => `${what} ${why}`);
  }

  /** Waits while the daemon is being restarted; throws `migration.restart_due` where its restart waits itself. */
  async beforeMigration(): Promise<void> {
    for (const late = Date.now() + RESTART_MS; Date.now() < late; ) {
      if (this.#wait !== undefined) throw restartDue(this.#wait);
      if (!isRestarting(this.#parts.step()) || this.#parts.isStopped()) return;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }
}
