import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { instant } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { putCrls } from '@virt-trust/contract/agent/operations.ts';
import type { InstalledCrl, RevokedParty } from '@virt-trust/contract/model/crl.ts';
import { PURPOSE_OF_SERVICE, PURPOSES, type Purpose } from '@virt-trust/contract/model/service.ts';
import { parseCrlNumber } from '@virt-trust/pki/crl-number.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import type { Authorities } from '../authorities/authorities.ts';
import { whyAway } from '../hosts/away.ts';
import type { HostChannels } from '../hosts/channels.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import type { Crl, CrlRepository } from './crl.ts';
import type { CrlIssuer } from './crl-issuer.ts';
import type { CrlLearning } from './crl-learning.ts';
import type { CrlRecovery } from './crl-recovery.ts';
import type { RevocationRepository } from './revocation.ts';

export interface CrlDeliveryParts {
  readonly authorities: Authorities;
  readonly issuer: CrlIssuer;
  readonly crls: CrlRepository;
  readonly revocations: RevocationRepository;
  readonly hosts: HostRepository;
  readonly channels: HostChannels;
  readonly clock: Clock;
  readonly log: Log;
  readonly recovery: Pick<CrlRecovery, 'held' | 'hasHeard'>;
  readonly learning: Pick<CrlLearning, 'ask'>;
}

/** What became of bringing a host the newest CRLs. */
export type DeliveryOutcome =
  /** It has them all, loaded; `cut` says whose sessions were ended, in words. */
  | { readonly kind: 'current'; readonly host: Host; readonly cut: readonly string[] }
  /** It gets them once its channel comes up. */
  | { readonly kind: 'away'; readonly host: Host; readonly reason: string }
  | { readonly kind: 'failed'; readonly host: Host; readonly reason: string };

/** A host loads a CRL in a second; one that restarts its daemon may take longer. */
const TIMEOUT_MS = 30_000;
const AWAY: ReadonlySet<string> = new Set(['channel.down', 'channel.interrupted', 'channel.not_sent']);

/**
 * Whether hosts of this kind have anything to load a CRL: not where they are only looked at, their TLS is switched off, or
 * nothing was made yet.
 */
export function takesCrls(host: Host): boolean {
  return !host.observeOnly && host.tlsOff !== true && host.state !== 'removing' && host.observed !== null;
}

/** The purposes whose CRLs a host needs. */
export function purposesOf(host: Host): readonly Purpose[] {
  const services = host.observed?.credentials.map(({ service }) => PURPOSE_OF_SERVICE[service]) ?? [];
  return services.length === 0 ? PURPOSES : PURPOSES.filter((purpose) => services.includes(purpose));
}

/**
 * Brings each host the newest CRL of every purpose that it serves, one delivery to a host at a time. SECURITY: nothing is
 * brought to a host that was not asked first what it holds, so that a restored manager takes no revocation off it.
 */
export class CrlDelivery {
  readonly #parts: CrlDeliveryParts;
  readonly #turns = new Map<HostId, Promise<unknown>>();

  constructor(parts: CrlDeliveryParts) {
    this.#parts = parts;
  }

  /** Never throws: the outcome says what became of it. `parties` are cut off even where the CRL is there already. */
  async deliver(host: Host, parties: readonly RevokedParty[], signal: AbortSignal): Promise<DeliveryOutcome> {
    const before = this.#turns.get(host.id) ?? Promise.resolve();
    const turn = before.then(() => this.#deliver(host, parties, signal));
    this.#turns.set(host.id, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(host.id) === turn) this.#turns.delete(host.id);
    }
  }

  /** What a host lacks, once its channel is up; hosts that were away learn whose sessions to cut as well. */
  async catchUp(hostName: string, signal: AbortSignal): Promise<void> {
    const { hosts, crls, revocations, log } = this.#parts;
    const host = await hosts.find(hostName);
    if (host === null || !takesCrls(host)) return;
    const since = (await crls.deliveriesTo(host.id)).map(({ at }) => at);
    const parties = since.length === 0 ? [] : await revocations.parties(instant(Math.min(...since)));
    if (parties.length === 0 && (await this.#hasAll(host, signal))) return;
    const outcome = await this.deliver(host, parties, signal);
    if (outcome.kind === 'failed')
      log.warn({ host: hostName, reason: outcome.reason }, 'has not the newest CRLs');
  }

  /** Asked of the host itself: it may have been set back. What it can't answer is found out by the delivery. */
  async #hasAll(host: Host, signal: AbortSignal): Promise<boolean> {
    try {
      const { crls } = await this.#parts.learning.ask(host, signal);
      const hasAll = this.#lacking(host, crls).length === 0;
      if (hasAll) await this.#record(host, crls);
      return hasAll;
    } catch {
      return false;
    }
  }

  /** The purposes of which a host has not loaded the newest CRL, or one is to be signed. */
  #lacking(host: Host, crls: readonly InstalledCrl[]): Purpose[] {
    const { authorities, issuer, recovery } = this.#parts;
    return purposesOf(host).filter((purpose) => {
      const { name } = authorities.byPurpose(purpose);
      const newest = issuer.current(name);
      const held = crls.find((one) => one.purpose === purpose && one.failure === null);
      // Held back, the newest is of the backup: there is nothing for who has a newer one.
      if (recovery.held)
        return newest !== null && (held === undefined || parseCrlNumber(held.number) < BigInt(newest.number));
      return issuer.isDue(name) || held?.number !== newest?.number.toString(16);
    });
  }

  async #deliver(
    host: Host,
    parties: readonly RevokedParty[],
    signal: AbortSignal,
  ): Promise<DeliveryOutcome> {
    const { channels } = this.#parts;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
    const state = channels.stateOf(host.id);
    if (state?.kind !== 'up') {
      return { kind: 'away', host, reason: whyAway(state) };
    }
    try {
      const { recovery, learning } = this.#parts;
      if (!recovery.held && recovery.hasHeard(host.id)) return await this.#put(host, parties, limit, 'first');
      const { crls } = await learning.ask(host, limit);
      return recovery.held
        ? await this.#putOfBackup(host, crls, parties, limit)
        : await this.#put(host, parties, limit, 'first');
    } catch (error) {
      signal.throwIfAborted();
      const away = isTrustError(error) && AWAY.has(error.code);
      return { kind: away ? 'away' : 'failed', host, reason: describeError(error) };
    }
  }

  async #put(
    host: Host,
    parties: readonly RevokedParty[],
    signal: AbortSignal,
    attempt: 'first' | 'again',
  ): Promise<DeliveryOutcome> {
    const { authorities, issuer, channels } = this.#parts;
    const { agent } = await channels.of(host);
    const wanted = await Promise.all(
      purposesOf(host).map(async (purpose) => {
        const crl = await issuer.ensure(authorities.byPurpose(purpose).name);
        return { purpose, crl };
      }),
    );
    const body = {
      crls: wanted.map(({ purpose, crl }) => ({ purpose, crl: encodePem('X509 CRL', crl.forHosts) })),
      revoked: [...parties],
    };
    try {
      const { crls, disconnected } = await agent.call(putCrls, { body }, { signal });
      await this.#record(host, crls);
      const failure = failureOf(wanted, crls);
      if (failure !== null) return { kind: 'failed', host, reason: failure };
      return { kind: 'current', host, cut: disconnected };
    } catch (error) {
      if (attempt === 'again' || !behind(error)) throw error;
      // It holds what this store never signed: what that says is learnt, and the next one is numbered past it.
      const { learnt } = await this.#parts.learning.ask(host, signal, 'all');
      if (learnt === 0) throw error;
      return this.#put(host, parties, signal, 'again');
    }
  }

  /** As long as CRLs are held back, a host that has an older one, or none, gets what the backup had. */
  async #putOfBackup(
    host: Host,
    held: readonly InstalledCrl[],
    parties: readonly RevokedParty[],
    signal: AbortSignal,
  ): Promise<DeliveryOutcome> {
    const { authorities, issuer, channels } = this.#parts;
    const crls = this.#lacking(host, held).flatMap((purpose) => {
      const crl = issuer.current(authorities.byPurpose(purpose).name);
      return crl === null ? [] : [{ purpose, crl: encodePem('X509 CRL', crl.forHosts) }];
    });
    if (crls.length === 0 && parties.length === 0) {
      await this.#record(host, held);
      return { kind: 'current', host, cut: [] };
    }
    const { agent } = await channels.of(host);
    const after = await agent.call(putCrls, { body: { crls, revoked: [...parties] } }, { signal });
    await this.#record(host, after.crls);
    const failed = after.crls.find(({ failure }) => failure !== null);
    if (failed === undefined) return { kind: 'current', host, cut: after.disconnected };
    const reason = `the CRL for ${failed.purpose} is not loaded: ${failed.failure}`;
    return { kind: 'failed', host, reason };
  }

  async #record(host: Host, held: readonly InstalledCrl[]): Promise<void> {
    const { crls, authorities, clock } = this.#parts;
    const entries = held.flatMap(({ purpose, number, nextUpdate, failure }) => {
      const value = Number(parseCrlNumber(number));
      if (!Number.isSafeInteger(value)) return [];
      const authority = authorities.byPurpose(purpose).name;
      return [
        {
          host: host.id,
          authority,
          number: value,
          nextUpdate: instant(nextUpdate),
          at: clock.now(),
          failure,
        },
      ];
    });
    await crls.delivered(entries);
  }
}

function failureOf(
  wanted: readonly { readonly purpose: Purpose; readonly crl: Crl }[],
  held: readonly InstalledCrl[],
): string | null {
  for (const { purpose, crl } of wanted) {
    const one = held.find((candidate) => candidate.purpose === purpose);
    if (one === undefined) return `it says nothing of the CRL for ${purpose}`;
    if (parseCrlNumber(one.number) < BigInt(crl.number)) return `it holds an older CRL for ${purpose}`;
    if (one.failure !== null) return `the CRL for ${purpose} is not loaded: ${one.failure}`;
  }
  return null;
}

/** Whether a host has a CRL of this number or a later one that this store does not know. */
function behind(error: unknown): boolean {
  return isTrustError(error, 'crl.older') || isTrustError(error, 'crl.number_reused');
}

/** The error for a host that has to have the newest CRLs and has not. */
export function undelivered(outcome: DeliveryOutcome & { readonly kind: 'away' | 'failed' }): TrustError {
  return new TrustError(
    'crl.not_delivered',
    'failed',
    `cannot bring the CRLs to host ${outcome.host.name}: ${outcome.reason}`,
    {
      hint: `look at its log (journalctl -u virt-trust-agent), then: virt-trust host provision ${outcome.host.name}`,
    },
  );
}
