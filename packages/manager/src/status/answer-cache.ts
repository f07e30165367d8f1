import type { Instant } from '@virt-trust/base/instant.ts';

/** A signed answer that everybody with the same question gets. */
export interface SignedAnswer {
  readonly der: Buffer;
  readonly producedAt: Instant;
  readonly nextUpdate: Instant;
  /** Signed anew when it is asked for after this. */
  readonly refreshAt: Instant;
  /** The state of its authority for which it holds. */
  readonly epoch: number;
  readonly authority: string;
}

/**
 * Signed answers by the very octets of the request, the one signed longest ago given up first. SECURITY: bounded, whatever
 * is asked; an answer given before a change of its authority's certificates is never found again.
 */
export class AnswerCache {
  readonly #answers = new Map<string, SignedAnswer>();
  readonly #epochs = new Map<string, number>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  /** The number of the authority's state; an answer made meanwhile is kept with what it was before. */
  epochOf(authority: string): number {
    return this.#epochs.get(authority) ?? 0;
  }

  find(request: string, now: Instant): SignedAnswer | undefined {
    const answer = this.#answers.get(request);
    if (answer === undefined) return undefined;
    if (
      now < answer.refreshAt &&
      now >= answer.producedAt &&
      answer.epoch === this.epochOf(answer.authority)
    ) {
      return answer;
    }
    this.#answers.delete(request);
    return undefined;
  }

  keep(request: string, answer: SignedAnswer): void {
    if (answer.epoch !== this.epochOf(answer.authority)) return;
    this.#answers.delete(request);
    this.#answers.set(request, answer);
    if (this.#answers.size <= this.#most) return;
    const oldest = this.#answers.keys().next().value;
    if (oldest !== undefined) this.#answers.delete(oldest);
  }

  /** From now on nothing that was signed before holds. */
  invalidate(authority: string): void {
    this.#epochs.set(authority, this.epochOf(authority) + 1);
  }
}
