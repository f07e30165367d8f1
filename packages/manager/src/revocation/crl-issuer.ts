import type { Clock } from '@virt-trust/base/clock.ts';
import { parseDuration } from '@virt-trust/base/duration.ts';
import { type Instant, instant, SECOND } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { CrlEntryFields } from '@virt-trust/pki/crl-entry.ts';
import { EncodedCrlEntries } from '@virt-trust/pki/crl-issue.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { Authorities } from '../authorities/authorities.ts';
import type { Authority } from '../authorities/authority.ts';
import type { Settings } from '../settings/settings.ts';
import type { Crl, CrlRepository } from './crl.ts';
import { hostForm } from './host-form.ts';
import type { ListedRevocation, RevocationRepository } from './revocation.ts';

export interface CrlIssuerParts {
  readonly authorities: Authorities;
  readonly revocations: RevocationRepository;
  readonly crls: CrlRepository;
  readonly settings: Settings;
  readonly clock: Clock;
  readonly log: Log;
  /** Makes the canary for the next CRL of the control authority; null where there is no host to try it on. */
  canary(): Promise<SerialNumber | null>;
  /** Throws as long as CRLs are held back. */
  requireSigning(what: string): void;
  /** Told of each CRL that was signed and kept. */
  onSigned(crl: Crl): void;
}

interface Read {
  readonly rewrites: number;
  readonly through: number;
  readonly listed: ListedRevocation[];
  readonly encoded: EncodedCrlEntries;
}

function entryOf({ serialNumber, at, reason }: ListedRevocation): CrlEntryFields {
  return { serialNumber, revocationDate: at, reason };
}

/** Signs each authority's CRL: at its first start, when something was revoked, and well before the last one ends. */
export class CrlIssuer {
  readonly #parts: CrlIssuerParts;
  readonly #busy = new Map<string, Promise<Crl>>();
  readonly #known = new Map<string, Read>();

  constructor(parts: CrlIssuerParts) {
    this.#parts = parts;
  }

  /** The newest CRL of an authority, null before the first. */
  current(authority: string): Crl | null {
    return this.#parts.crls.find(authority);
  }

  /** Whether the next one has something to say that the newest has not, or has to be numbered past another. */
  isDue(authority: string): boolean {
    const { revocations, crls } = this.#parts;
    const crl = this.current(authority);
    return (
      crl === null || crl.changes < revocations.changes(authority) || crl.number < crls.highest(authority)
    );
  }

  /** When the CRL is signed anew although nothing was revoked: well before it ends. */
  async refreshAt({ thisUpdate, nextUpdate }: Pick<Crl, 'thisUpdate' | 'nextUpdate'>): Promise<Instant> {
    const { settings } = this.#parts;
    const percent = await settings.value('crl.refresh_percent');
    const lifetime = await this.#lifetime();
    // A lifetime that was made shorter holds for CRLs that are out already.
    const planned = Math.min(lifetime, nextUpdate - thisUpdate);
    return instant(Math.floor(thisUpdate + (planned * percent) / 100));
  }

  /**
   * A CRL that has everything that was revoked until now, numbered past all that were ever seen, signed unless there is
   * one; with `anew` in any case. Who comes while one is being signed shares the next. Throws `crl.held`.
   */
  async ensure(authority: string, how: 'if-needed' | 'anew' = 'if-needed'): Promise<Crl> {
    const { revocations, crls, requireSigning } = this.#parts;
    const wanted = revocations.changes(authority);
    const least = Math.max(
      crls.highest(authority),
      how === 'anew' ? (this.current(authority)?.number ?? 0) + 1 : 0,
    );
    const good = (crl: Crl | null): crl is Crl =>
      crl !== null && crl.changes >= wanted && crl.number >= least;
    for (;;) {
      const current = this.current(authority);
      if (good(current)) return current;
      const busy = this.#busy.get(authority);
      if (busy === undefined) break;
      await busy.catch(() => {});
    }
    requireSigning(`sign a CRL of authority ${authority}`);
    const signing = this.#sign(this.#parts.authorities.byName(authority)).finally(() =>
      this.#busy.delete(authority),
    );
    this.#busy.set(authority, signing);
    return signing;
  }

  /** What the CRL has to say; of a long one, only what was added since is read and encoded. */
  #read(authority: string): Read & { readonly changes: number } {
    const known = this.#known.get(authority) ?? {
      rewrites: -1,
      through: 0,
      listed: [],
      encoded: new EncodedCrlEntries(),
    };
    const { changes, rewrites, listed: fresh, from } = this.#parts.revocations.content(authority, known);
    const read: Pick<Read, 'listed' | 'encoded'> =
      from === 0 ? { listed: [], encoded: new EncodedCrlEntries() } : known;
    for (const entry of fresh) {
      read.listed.push(entry);
      read.encoded.add(entryOf(entry));
    }
    const now = { ...read, rewrites, through: fresh.at(-1)?.sequence ?? from };
    this.#known.set(authority, now);
    return { ...now, changes };
  }

  async #lifetime(): Promise<number> {
    return parseDuration(await this.#parts.settings.value('crl.lifetime')) ?? 0;
  }

  async #sign(authority: Authority): Promise<Crl> {
    const { crls, clock, log, settings, onSigned } = this.#parts;
    const { name } = authority;
    const canary = authority.purpose === 'control' ? await this.#parts.canary() : null;
    const { changes, listed, encoded } = this.#read(name);
    const now = clock.now();
    const thisUpdate = instant(Math.floor(now / SECOND) * SECOND);
    const nextUpdate = instant(
      Math.min(
        thisUpdate + (await this.#lifetime()),
        Math.max(authority.issuing.notAfter, thisUpdate + SECOND),
      ),
    );
    // Those that hosts hold of before a restore are among them.
    const number = Math.max(now, (crls.find(name)?.number ?? 0) + 1, crls.highest(name) + 1);
    const forHosts = hostForm(listed, canary);
    const fields = { number: BigInt(number), thisUpdate, nextUpdate };
    const whole = await authority.signCrl({ ...fields, entries: encoded });
    const crl: Crl = {
      authority: name,
      number,
      thisUpdate,
      nextUpdate,
      changes,
      entries: listed.length,
      hostEntries: forHosts.length,
      canary,
      whole,
      forHosts:
        forHosts === listed
          ? whole
          : await authority.signCrl({ ...fields, entries: EncodedCrlEntries.of(forHosts.map(entryOf)) }),
    };
    // A host whose clock is behind takes a certificate for longer.
    const skew = (await settings.value('clock.allowed_skew_seconds')) * SECOND;
    const gone = {
      through: listed.at(-1)?.sequence ?? 0,
      endedBefore: instant(Math.max(0, thisUpdate - skew)),
    };
    await crls.keep(crl, gone, {
      actor: 'manager',
      action: 'crl.sign',
      subject: name,
      outcome: 'done',
      detail: `number ${number.toString(16)}, ${listed.length} entries`,
    });
    log.info({ authority: name, number: number.toString(16), entries: listed.length }, 'signed the CRL');
    onSigned(crl);
    return crl;
  }
}
