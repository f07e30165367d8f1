import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { type Instant, MINUTE } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import type { CrlRecoveryRepository } from './recovery-repository.ts';

export interface CrlRecoveryParts {
  readonly repository: CrlRecoveryRepository;
  readonly hosts: Pick<HostRepository, 'list'>;
  /** Whether a host is one that holds CRLs. */
  readonly takesCrls: (host: Host) => boolean;
  readonly clock: Clock;
  readonly log: Log;
  /** Told when CRLs are held back no longer. */
  onEnd(): void;
}

/** How far a restored manager has come in asking its hosts. */
export interface RecoveryProgress {
  readonly heard: number;
  readonly hosts: number;
  readonly since: Instant;
}

/** So long every host is waited for; from then on more than half of them are enough. */
const PATIENCE = 10 * MINUTE;

/**
 * A manager whose store was restored does not know what was revoked since the backup, but its hosts hold CRLs that do.
 * SECURITY: until they were asked it signs no CRL and tells nobody that a certificate is good; one host alone, which might
 * be broken into, is never enough of several.
 */
export class CrlRecovery {
  readonly #parts: CrlRecoveryParts;
  readonly #since: Instant;
  readonly #heard: Set<HostId>;
  #held: boolean;
  #reviewing: Promise<void> | null = null;
  #again = false;
  #ending: Promise<void> | null = null;

  constructor(parts: CrlRecoveryParts) {
    this.#parts = parts;
    this.#since = parts.clock.now();
    this.#heard = new Set(parts.repository.heard());
    this.#held = parts.repository.isHeld();
  }

  /** Whether CRLs are held back. */
  get held(): boolean {
    return this.#held;
  }

  /** Whether a host was asked what it holds since the store was made or restored. */
  hasHeard(host: HostId): boolean {
    return this.#heard.has(host);
  }

  /** All that a host holds is in the store. */
  async heard(host: HostId): Promise<void> {
    if (this.#heard.has(host)) return;
    await this.#parts.repository.noteHeard(host);
    this.#heard.add(host);
    await this.review('patient');
  }

  /** Throws `crl.held` as long as CRLs are held back. */
  require(what: string): void {
    if (this.#held) throw held(what);
  }

  async progress(): Promise<RecoveryProgress> {
    const hosts = (await this.#parts.hosts.list()).filter(this.#parts.takesCrls);
    const heard = hosts.filter(({ id }) => this.#heard.has(id)).length;
    return { heard, hosts: hosts.length, since: this.#since };
  }

  /** Ends it where enough hosts were asked; `now` where every host that is up was asked just now. */
  async review(how: 'patient' | 'now'): Promise<void> {
    if (!this.#held) return;
    if (how === 'now') return this.#review('now');
    // All hosts come up at once: their answers are counted together.
    if (this.#reviewing !== null) {
      this.#again = true;
      return this.#reviewing;
    }
    this.#reviewing = this.#reviewUntilQuiet().finally(() => {
      this.#reviewing = null;
    });
    return this.#reviewing;
  }

  async #reviewUntilQuiet(): Promise<void> {
    do {
      this.#again = false;
      await this.#review('patient');
    } while (this.#again && this.#held);
  }

  async #review(how: 'patient' | 'now'): Promise<void> {
    const { heard, hosts, since } = await this.progress();
    const patient = how === 'patient' && this.#parts.clock.now() < since + PATIENCE;
    if (heard === hosts) await this.end('manager', `all ${hosts} hosts were asked`);
    else if (!patient && heard * 2 > hosts)
      await this.end('manager', `${heard} of ${hosts} hosts were asked, the others are away`);
  }

  /** From now on CRLs are signed; a host that was not asked is asked before anything is brought to it, all the same. */
  async end(actor: string, why: string): Promise<void> {
    if (!this.#held) return;
    this.#ending ??= this.#end(actor, why).finally(() => {
      this.#ending = null;
    });
    await this.#ending;
  }

  async #end(actor: string, why: string): Promise<void> {
    const { repository, log, onEnd } = this.#parts;
    await repository.release({
      actor,
      action: 'crl.resume',
      subject: 'CRLs',
      outcome: 'done',
      detail: `signed and published again after the restore: ${why}`,
    });
    this.#held = false;
    log.info({ why }, 'CRLs are signed again');
    onEnd();
  }
}

/** Why nothing is signed. */
function held(what: string): TrustError {
  return new TrustError(
    'crl.held',
    'unavailable',
    `cannot ${what}: this manager was restored from a backup and has not asked enough of its hosts what was revoked since`,
    {
      hint: 'bring the hosts up (virt-trust host list), or go on without those that are away: virt-trust crl refresh',
    },
  );
}
