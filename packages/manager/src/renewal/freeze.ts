import type { EventLog } from '../events/event-log.ts';
import type { Settings } from '../settings/settings.ts';
import type { RenewalControl, RenewalStore } from './renewal-store.ts';

export interface FreezeParts {
  readonly store: RenewalStore;
  readonly settings: Settings;
  readonly events: EventLog;
  /** Told after each change, with what holds now. */
  readonly onChange: (control: RenewalControl) => void;
}

/** The brake on all changes to the fleet that nobody asked for by name; it outlasts restarts. */
export class Freeze {
  readonly #parts: FreezeParts;

  constructor(parts: FreezeParts) {
    this.#parts = parts;
  }

  state(): Promise<RenewalControl> {
    return this.#parts.store.control();
  }

  async isFrozen(): Promise<boolean> {
    return (await this.state()).frozen;
  }

  /** Stops everything at once, or lets it go on; a freeze that is said again without a reason keeps the one it had. */
  async put(frozen: boolean, said: string, actor: string): Promise<RenewalControl> {
    const before = await this.state();
    const reason = said === '' && frozen && before.frozen ? before.reason : said;
    const verb = frozen ? 'frozen' : 'unfrozen';
    const why = reason === '' ? '' : `: ${reason}`;
    return this.#set(frozen, actor, reason, `the fleet was ${verb} by ${actor}${why}`);
  }

  /** Stops the wave where too many hosts failed. */
  async afterFailure(): Promise<void> {
    if (await this.isFrozen()) return;
    const [failed, limit] = await Promise.all([
      this.#parts.store.countFailures(),
      this.#parts.settings.value('renewal.failure_limit'),
    ]);
    if (failed < limit) return;
    const reason = `renewing failed on ${failed} ${failed === 1 ? 'host' : 'hosts'}, renewal.failure_limit is ${limit}`;
    await this.#set(true, 'wave', reason, `renewals stopped: ${reason}`);
  }

  async #set(frozen: boolean, by: string, reason: string, message: string): Promise<RenewalControl> {
    const control = await this.#parts.store.setFreeze({
      frozen,
      by: frozen ? by : null,
      reason,
      audit: {
        actor: by === 'wave' ? 'manager' : by,
        action: frozen ? 'fleet.freeze' : 'fleet.unfreeze',
        subject: 'fleet',
        outcome: 'done',
        detail: reason,
      },
      event: { kind: frozen ? 'fleet.frozen' : 'fleet.unfrozen', subject: 'fleet', message },
    });
    this.#parts.events.wake();
    this.#parts.onChange(control);
    return control;
  }
}
