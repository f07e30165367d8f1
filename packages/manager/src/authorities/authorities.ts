import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import { PURPOSES, type Purpose } from '@virt-trust/contract/model/service.ts';
import { encodeCertificatesPem } from '@virt-trust/pki/certificate.ts';
import { formatName } from '@virt-trust/pki/name.ts';
import type { Authority, AuthorityProvider, AuthorityRecord, AuthorityRepository } from './authority.ts';
import {
  type AuthorityConstraints,
  createInternalAuthority,
  nameConstraintsOf,
} from './internal-creation.ts';
import { internalProvider } from './internal-provider.ts';

export interface AuthoritiesOptions {
  readonly repository: AuthorityRepository;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
  /** For authorities that are made now; those that are there keep theirs. */
  readonly organization: string;
  readonly constraints: AuthorityConstraints;
  /** Milliseconds. */
  readonly skew: number;
}

const PROVIDERS: Readonly<Record<AuthorityRecord['provider'], AuthorityProvider>> = {
  internal: internalProvider,
};

/** The authorities of this manager, one for each purpose. */
export class Authorities {
  readonly #byPurpose: ReadonlyMap<Purpose, Authority>;

  private constructor(authorities: readonly Authority[]) {
    this.#byPurpose = new Map(authorities.map((authority) => [authority.purpose, authority]));
  }

  /**
   * Takes the authorities into service; at the first start makes them all in one unit of work, and later those of
   * purposes that an older version did not know, like the ones that are there.
   */
  static async open(options: AuthoritiesOptions): Promise<Authorities> {
    const records = await options.repository.list();
    const known = records.map((record) => PROVIDERS[record.provider].open(record));
    const missing = PURPOSES.filter((purpose) => !known.some((one) => one.purpose === purpose));
    if (missing.length === 0) return new Authorities(known);
    await create(options, missing, known[0]);
    const all = await options.repository.list();
    return new Authorities(all.map((record) => PROVIDERS[record.provider].open(record)));
  }

  list(): Authority[] {
    return [...this.#byPurpose.values()];
  }

  /** The authority of that name; throws `authority.unknown`. */
  byName(name: string): Authority {
    const found = this.list().find((authority) => authority.name === name);
    if (found === undefined) throw unknown(`named ${name}`);
    return found;
  }

  /** The authority for a purpose; throws `authority.unknown`. */
  byPurpose(purpose: Purpose): Authority {
    const found = this.#byPurpose.get(purpose);
    if (found === undefined) throw unknown(`for ${purpose}`);
    return found;
  }

  /** What hosts trust for a purpose, in PEM: the issuing CA, then the root. */
  bundle(purpose: Purpose): string {
    const { issuing, root } = this.byPurpose(purpose);
    return encodeCertificatesPem([issuing, root]);
  }
}

function unknown(which: string): TrustError {
  return new TrustError('authority.unknown', 'not-found', `cannot find an authority ${which}`, {
    hint: 'see them with: virt-trust authority list',
  });
}

async function create(
  options: AuthoritiesOptions,
  purposes: readonly Purpose[],
  like: Authority | undefined,
): Promise<void> {
  const nameConstraints =
    like === undefined ? nameConstraintsOf(options.constraints) : like.issuing.extensions.nameConstraints;
  const records = await Promise.all(
    purposes.map((purpose) =>
      createInternalAuthority({
        purpose,
        organization: like?.organization ?? options.organization,
        nameConstraints,
        now: options.clock.now(),
        skew: options.skew,
        randomness: options.randomness,
        keyAlgorithm: 'ecdsa-p256-sha256',
      }),
    ),
  );
  const drafts = records.map((record) => {
    const { issuing } = PROVIDERS[record.provider].open(record);
    return {
      actor: 'manager',
      action: 'authority.create',
      subject: record.name,
      outcome: 'done' as const,
      detail: `${formatName(issuing.subject)}, pin ${issuing.pin}`,
    };
  });
  await options.repository.add(records, drafts);
  for (const { purpose } of records) options.log.info({ purpose }, 'made the authority');
}
