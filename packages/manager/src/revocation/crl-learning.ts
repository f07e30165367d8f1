import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { inParallel } from '@virt-trust/base/in-parallel.ts';
import { getCrls, getObservedState } from '@virt-trust/contract/agent/operations.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { InstalledCrl } from '@virt-trust/contract/model/crl.ts';
import type { Purpose } from '@virt-trust/contract/model/service.ts';
import { parseCrls } from '@virt-trust/pki/crl.ts';
import { parseCrlNumber } from '@virt-trust/pki/crl-number.ts';
import { verifyCrl } from '@virt-trust/pki/crl-verify.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { HostChannels } from '../hosts/channels.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import { Slots } from '../hosts/slots.ts';
import type { CrlRepository } from './crl.ts';
import type { CrlRecovery } from './crl-recovery.ts';
import type { CrlRecoveryRepository, FoundCrl } from './recovery-repository.ts';

export interface CrlLearningParts {
  readonly authorities: Pick<Authorities, 'byPurpose'>;
  readonly crls: Pick<CrlRepository, 'knows' | 'highest'>;
  readonly repository: Pick<CrlRecoveryRepository, 'adopt'>;
  readonly recovery: CrlRecovery;
  readonly takesCrls: (host: Host) => boolean;
  readonly hosts: Pick<HostRepository, 'list'>;
  readonly channels: HostChannels;
  readonly audit: { append(entries: readonly AuditDraft[]): Promise<void> };
  /** Told of authorities of which something was learnt. */
  onLearnt(authorities: readonly string[]): void;
}

/** What a host holds, and from how many CRLs of its something was learnt. */
export interface Held {
  readonly crls: readonly InstalledCrl[];
  readonly learnt: number;
}

/** So many hosts are asked at one time: after a start of the manager all come up together. */
const AT_ONCE = 64;
const TIMEOUT_MS = 10_000;
const MAX_BYTES = 98_304;
/** SECURITY: of one host; what it makes up more than that fills neither log nor memory. */
const MOST_REFUSED = 64;

/**
 * Learns back from hosts what was revoked after the backup that a store was restored from. SECURITY: only what our own
 * authority signed is believed; a host can withhold it, and no host can make it up. Each CRL is fetched once.
 */
export class CrlLearning {
  readonly #parts: CrlLearningParts;
  readonly #slots = new Slots(AT_ONCE);
  readonly #fetching = new Map<string, Promise<unknown>>();
  /** Told of before, so that one entry tells of it and not one for each look. */
  readonly #refused = new Map<HostId, Set<string>>();

  constructor(parts: CrlLearningParts) {
    this.#parts = parts;
  }

  /**
   * Asks a host what it holds, and records what this store does not know of it; `all` where a number that is known may be
   * another's. Throws `crl.not_shown` where it does not show what it says it holds.
   */
  ask(host: Host, signal: AbortSignal, how: 'unknown' | 'all' = 'unknown'): Promise<Held> {
    return this.#slots.run(signal, async () => {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]);
      const { agent } = await this.#parts.channels.of(host);
      const { crls } = await agent.call(getObservedState, {}, { signal: limit });
      const wanted = () =>
        crls.filter(({ purpose, number }) => this.#isNews(purpose, parseCrlNumber(number), how));
      let learnt = 0;
      await this.#alone(wanted, async (unknown) => {
        learnt = await this.#learn(host, unknown, how, limit);
      });
      await this.#parts.recovery.heard(host.id);
      return { crls, learnt };
    });
  }

  /** Asks every host that is up and was not asked; with `endedBy` CRLs are held back no longer, whoever is away. */
  async recover(endedBy: string | null, signal: AbortSignal): Promise<void> {
    const { recovery } = this.#parts;
    await this.#askAll(signal);
    if (endedBy === null) return recovery.review('now');
    const { heard, hosts } = await recovery.progress();
    await recovery.end(endedBy, `asked for by name when ${heard} of ${hosts} hosts had been asked`);
  }

  async #askAll(signal: AbortSignal): Promise<void> {
    const { hosts, channels, recovery, takesCrls } = this.#parts;
    const unheard = (await hosts.list()).filter(
      (host) => takesCrls(host) && !recovery.hasHeard(host.id) && channels.stateOf(host.id)?.kind === 'up',
    );
    await inParallel(unheard, AT_ONCE, (host) => this.ask(host, signal).catch(() => {}));
  }

  /**
   * Whether a CRL of that number may say something that this store does not know. SECURITY: one that it knows, shown
   * again, would put back on hold what was released; only of the newest number there can be another.
   */
  #isNews(purpose: Purpose, number: bigint, how: 'unknown' | 'all'): boolean {
    const { authorities, crls } = this.#parts;
    const { name } = authorities.byPurpose(purpose);
    const value = Number(number);
    if (!Number.isSafeInteger(value) || !crls.knows(name, value)) return true;
    return how === 'all' && value >= crls.highest(name);
  }

  /** Who wants the same CRLs meanwhile waits, and mostly finds them known then. */
  async #alone(
    wanted: () => InstalledCrl[],
    work: (unknown: readonly InstalledCrl[]) => Promise<void>,
  ): Promise<void> {
    const keyOf = ({ purpose, number }: InstalledCrl) => `${purpose} ${number}`;
    for (;;) {
      const busy = wanted().flatMap((one) => this.#fetching.get(keyOf(one)) ?? []);
      if (busy.length === 0) break;
      await Promise.allSettled(busy);
    }
    const unknown = wanted();
    if (unknown.length === 0) return;
    const turn = work(unknown);
    for (const one of unknown) this.#fetching.set(keyOf(one), turn);
    try {
      await turn;
    } finally {
      for (const one of unknown) this.#fetching.delete(keyOf(one));
    }
  }

  async #learn(
    host: Host,
    unknown: readonly InstalledCrl[],
    how: 'unknown' | 'all',
    signal: AbortSignal,
  ): Promise<number> {
    const { channels, authorities, repository, onLearnt } = this.#parts;
    const { agent } = await channels.of(host);
    const { crls } = await agent.call(getCrls, {}, { signal });
    const touched: string[] = [];
    try {
      for (const { purpose, number } of unknown) {
        try {
          const pem = crls.find((one) => one.purpose === purpose)?.crl;
          if (pem === undefined) throw new TrustError('crl.missing', 'invalid', 'it does not show it');
          const found = this.#verify(host, purpose, pem);
          // It may have got a newer one meanwhile, never an older one.
          if (BigInt(found.number) < parseCrlNumber(number))
            throw new TrustError('crl.other', 'invalid', `it shows number ${found.number.toString(16)}`);
          if (!this.#isNews(purpose, BigInt(found.number), how)) continue;
          if (await repository.adopt(found)) touched.push(found.authority);
        } catch (error) {
          throw await this.#refuse(host, authorities.byPurpose(purpose).name, number, error);
        }
      }
    } finally {
      if (touched.length > 0) onLearnt(touched);
    }
    return touched.length;
  }

  /** Its age is of no account: what was revoked once is revoked. */
  #verify(host: Host, purpose: Purpose, pem: string): FoundCrl {
    const { name, issuing } = this.#parts.authorities.byPurpose(purpose);
    const [crl, ...more] = parseCrls(pem, { maxBytes: MAX_BYTES });
    if (crl === undefined || more.length > 0)
      throw new TrustError('crl.not_one', 'invalid', 'the text is not that of one CRL');
    verifyCrl(crl, [issuing], { at: crl.thisUpdate });
    const number = Number(crl.extensions.crlNumber ?? 0n);
    if (!Number.isSafeInteger(number))
      throw new TrustError('crl.number', 'invalid', 'its number is none that this manager gives out');
    return {
      authority: name,
      number,
      host: host.name,
      notAfter: issuing.notAfter,
      entries: [...crl.entries].map(({ serialNumber, revocationDate, reason }) => ({
        serialNumber,
        at: revocationDate,
        reason: reasonOf(reason),
      })),
    };
  }

  async #refuse(host: Host, authority: string, number: string, cause: unknown): Promise<TrustError> {
    const reason = describeError(cause);
    const key = `${authority} ${number}`;
    const before = this.#refused.get(host.id) ?? new Set();
    this.#refused.set(host.id, before);
    if (!before.has(key) && before.size < MOST_REFUSED) {
      before.add(key);
      await this.#parts.audit.append([
        {
          actor: 'manager',
          action: 'crl.adopt',
          subject: authority,
          outcome: 'refused',
          detail:
            `host ${host.name} says it holds CRL number ${number}, which this store does not know: ${reason}`.slice(
              0,
              1000,
            ),
        },
      ]);
    }
    return new TrustError(
      'crl.not_shown',
      'failed',
      `cannot learn CRL number ${number} of ${authority} from host ${host.name}: ${reason}`,
      {
        cause,
        hint: 'a host that holds a CRL which is not ours has been interfered with: look at its log (journalctl -u virt-trust-agent)',
      },
    );
  }
}

/** An entry that was taken off again is in delta CRLs alone, which there are none of. */
function reasonOf(reason: string): RevocationReason {
  return reason === 'removeFromCRL' ? 'unspecified' : (reason as RevocationReason);
}
