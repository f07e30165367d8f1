import type { Clock } from '@virt-trust/base/clock.ts';
import { MINUTE } from '@virt-trust/base/instant.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { AdmissionRefusal } from './admission.ts';

/** Why a connection to the listener ended before it was a channel. */
export type RefusalReason =
  | AdmissionRefusal
  /** Not an address that those come from for whom the door is. */
  | { readonly kind: 'address' }
  /** From an address that came too often, or proved nothing too often. */
  | { readonly kind: 'too-often' }
  | { readonly kind: 'handshake'; readonly detail: string }
  | { readonly kind: 'handshake-timeout' }
  /** Too many unfinished handshakes; this was the oldest. */
  | { readonly kind: 'crowded-out' }
  /** A key that has as many channels as it may have. */
  | { readonly kind: 'too-many-channels'; readonly pin: SpkiPin }
  /** Our own side could not tell whom it trusts. */
  | { readonly kind: 'internal'; readonly detail: string };

export interface Refusal {
  readonly remoteAddress: string;
  readonly reason: RefusalReason;
  /** How many refusals before this one went unreported because there were too many. */
  readonly suppressed: number;
}

/** Reports refusals, at most `perMinute` in any minute: strangers must not be able to fill a log. */
export class RefusalReporter {
  readonly #report: (refusal: Refusal) => void;
  readonly #clock: Clock;
  readonly #perMinute: number;
  #windowStart = 0;
  #reported = 0;
  #suppressed = 0;

  constructor(report: (refusal: Refusal) => void, clock: Clock, perMinute: number) {
    this.#report = report;
    this.#clock = clock;
    this.#perMinute = perMinute;
  }

  refuse(remoteAddress: string, reason: RefusalReason): void {
    const now = this.#clock.now();
    // A clock that was set back starts a new window as well.
    if (now - this.#windowStart >= MINUTE || now < this.#windowStart) {
      this.#windowStart = now;
      this.#reported = 0;
    }
    if (this.#reported >= this.#perMinute) {
      this.#suppressed++;
      return;
    }
    this.#reported++;
    const suppressed = this.#suppressed;
    this.#suppressed = 0;
    this.#report({ remoteAddress, reason, suppressed });
  }
}
