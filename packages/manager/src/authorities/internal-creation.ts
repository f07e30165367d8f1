import type { KeyObject } from 'node:crypto';
import { DAY, type Instant, instant } from '@virt-trust/base/instant.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { Purpose } from '@virt-trust/contract/model/service.ts';
import type { KeyAlgorithmName } from '@virt-trust/pki/algorithms.ts';
import { issueRootAuthority, prepareIssuingAuthority } from '@virt-trust/pki/authority-issue.ts';
import { parseCertificate } from '@virt-trust/pki/certificate.ts';
import { prepareIssuer, signCertificate } from '@virt-trust/pki/certificate-issue.ts';
import { generatePrivateKey, spkiOfKey } from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { type NameConstraints, parseNameSubtree } from '@virt-trust/pki/name-constraints.ts';
import { newSerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { NewAuthorityRecord } from './authority.ts';

const YEAR = 365 * DAY;
const ROOT_LIFETIME = 20 * YEAR;
const ISSUING_LIFETIME = 10 * YEAR;

/** The names that certificates of new authorities may have; an empty list constrains nothing of its kind. */
export interface AuthorityConstraints {
  /** Names, each with all below it. */
  readonly dns: readonly string[];
  /** `10.0.0.0/8`, `fd00::/8`. */
  readonly subnets: readonly string[];
}

export interface CreationOrder {
  readonly purpose: Purpose;
  /** The organization of the authority and of all its certificates. */
  readonly organization: string;
  /** What the issuing CA's certificates may be for; undefined where nothing is constrained. */
  readonly nameConstraints: NameConstraints | undefined;
  readonly now: Instant;
  /** Back-dating in milliseconds. */
  readonly skew: number;
  readonly randomness: Randomness;
  readonly keyAlgorithm: KeyAlgorithmName;
}

/** RFC 5280 §4.2.1.10: nameConstraints of what is permitted; undefined where nothing is constrained. */
export function nameConstraintsOf(constraints: AuthorityConstraints): NameConstraints | undefined {
  const permitted = [...constraints.dns, ...constraints.subnets].map(parseNameSubtree);
  return permitted.length === 0 ? undefined : { permitted, excluded: [] };
}

/** Makes root and issuing CA of a purpose, path lengths 1 and 0, the constraints on the issuing CA. */
export async function createInternalAuthority(order: CreationOrder): Promise<NewAuthorityRecord> {
  const { purpose, randomness } = order;
  // Two managers' authorities, side by side in one bundle, must differ by name.
  const tag = Buffer.from(randomness.bytes(4)).toString('hex');
  const subject = (kind: string) =>
    encodeName({ organization: order.organization, commonName: `virt-trust ${purpose} ${kind} ${tag}` });
  const notBefore = instant(order.now - order.skew);
  const rootKey = await generatePrivateKey(order.keyAlgorithm);
  const issuingKey = await generatePrivateKey(order.keyAlgorithm);
  const rootCertificate = issueRootAuthority(
    {
      serialNumber: newSerialNumber(randomness),
      subject: subject('root'),
      notBefore,
      notAfter: instant(order.now + ROOT_LIFETIME),
      nameConstraints: undefined,
    },
    rootKey,
  );
  const root = prepareIssuer({ certificate: parseCertificate(rootCertificate), key: rootKey });
  const prepared = prepareIssuingAuthority(
    root,
    {
      serialNumber: newSerialNumber(randomness),
      subject: subject('issuing'),
      notBefore,
      notAfter: instant(order.now + ISSUING_LIFETIME),
      nameConstraints: order.nameConstraints,
    },
    spkiOfKey(issuingKey),
  );
  return {
    name: purpose,
    purpose,
    provider: 'internal',
    rootCertificate,
    issuingCertificate: signCertificate(prepared, root),
    rootKey: pkcs8(rootKey),
    issuingKey: pkcs8(issuingKey),
  };
}

function pkcs8(key: KeyObject): Uint8Array {
  return key.export({ type: 'pkcs8', format: 'der' });
}
