import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError } from '@virt-trust/base/error.ts';
import { inParallel } from '@virt-trust/base/in-parallel.ts';
import { type Instant, instant, MINUTE } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { wakeAt } from '@virt-trust/base/timer.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { HostChannels } from '../hosts/channels.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import type { CrlRepository } from './crl.ts';
import type { CrlIssuer } from './crl-issuer.ts';
import type { CrlRecovery } from './crl-recovery.ts';
import { type CrlDelivery, purposesOf, takesCrls } from './delivery.ts';

export interface CrlUpkeepParts {
  readonly authorities: Authorities;
  readonly issuer: CrlIssuer;
  readonly crls: CrlRepository;
  readonly delivery: CrlDelivery;
  readonly recovery: Pick<CrlRecovery, 'held' | 'hasHeard' | 'review'>;
  readonly hosts: HostRepository;
  readonly channels: HostChannels;
  readonly clock: Clock;
  readonly log: Log;
  readonly signal: AbortSignal;
}

const AT_ONCE = 64;

/**
 * Keeps CRLs fresh while nothing is revoked: signed anew well before they end, what a crash left unsigned signed, and
 * hosts that are behind told again. Looks each minute, and when the next one is due.
 */
export class CrlUpkeep {
  readonly #parts: CrlUpkeepParts;
  #stop: () => void = () => {};
  #looking: Promise<void> = Promise.resolve();
  #failure: string | null = null;
  #hurrying = false;

  constructor(parts: CrlUpkeepParts) {
    this.#parts = parts;
  }

  /** Why the last signing failed; null where it did not. */
  get failure(): string | null {
    return this.#failure;
  }

  /** Signs what is due now, the first CRLs at the first start, and goes on by itself. */
  async start(): Promise<void> {
    this.#parts.signal.addEventListener('abort', () => this.#stop(), { once: true });
    await this.#sign();
    this.#go();
  }

  /** Resolves when no look is under way. */
  idle(): Promise<void> {
    return this.#looking;
  }

  /** Signs what is due and brings it to hosts that are up and behind. */
  async look(): Promise<void> {
    await this.#sign();
    await this.#bring();
  }

  /** Looks as soon as no other look is under way, once for all who say so meanwhile. */
  hurry(): void {
    if (this.#hurrying) return;
    this.#hurrying = true;
    this.#next(async () => {
      this.#hurrying = false;
      await this.look();
    });
  }

  #go(): void {
    this.#next(() => this.#lookAndRest());
  }

  #next(look: () => Promise<void>): void {
    this.#looking = this.#looking.then(async () => {
      const { signal, log } = this.#parts;
      if (signal.aborted) return;
      await look().catch((error: unknown) => {
        if (!signal.aborted) log.error({}, `cannot keep CRLs fresh: ${describeError(error)}`);
      });
    });
  }

  async #lookAndRest(): Promise<void> {
    const { clock, signal } = this.#parts;
    let next = instant(clock.now() + MINUTE);
    try {
      await this.look();
      next = instant(Math.min(next, await this.#nextDue()));
    } finally {
      if (!signal.aborted) this.#stop = wakeAt(clock, next, () => this.#go());
    }
  }

  async #sign(): Promise<void> {
    const { authorities, issuer, recovery, clock, log } = this.#parts;
    await recovery.review('patient');
    if (recovery.held) return;
    let failure: string | null = null;
    for (const { name } of authorities.list()) {
      try {
        const crl = issuer.current(name);
        const isDue = crl === null || clock.now() >= (await issuer.refreshAt(crl));
        if (isDue) await issuer.ensure(name, 'anew');
        else await issuer.ensure(name);
      } catch (error) {
        // The others are signed all the same; this one is tried again at the next look.
        failure = `${name}: ${describeError(error)}`;
        log.error({ authority: name }, `cannot sign the CRL: ${describeError(error)}`);
      }
    }
    this.#failure = failure;
  }

  async #nextDue(): Promise<Instant> {
    const { authorities, issuer, clock } = this.#parts;
    const soonest = instant(clock.now() + MINUTE);
    const due = await Promise.all(
      authorities.list().map(async ({ name }) => {
        const crl = issuer.current(name);
        return crl === null ? soonest : issuer.refreshAt(crl);
      }),
    );
    return instant(Math.max(clock.now() + 1000, Math.min(...due)));
  }

  async #bring(): Promise<void> {
    const { hosts, channels, crls, delivery, signal } = this.#parts;
    const held = await crls.deliveries();
    const behind = (await hosts.list()).filter(
      (host) => takesCrls(host) && channels.stateOf(host.id)?.kind === 'up' && this.#isBehind(host, held),
    );
    await inParallel(behind, AT_ONCE, (host) => delivery.catchUp(host.name, signal));
  }

  #isBehind(host: Host, held: Awaited<ReturnType<CrlRepository['deliveries']>>): boolean {
    const { authorities, issuer, recovery } = this.#parts;
    if (!recovery.hasHeard(host.id)) return true;
    return purposesOf(host).some((purpose) => {
      const { name } = authorities.byPurpose(purpose);
      const one = held.find((candidate) => candidate.host === host.id && candidate.authority === name);
      return one === undefined || one.failure !== null || one.number < (issuer.current(name)?.number ?? 0);
    });
  }
}
