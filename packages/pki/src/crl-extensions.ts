import { crlNumberOfOctets } from './crl-number.ts';
import type { CrlReason } from './crl-reason.ts';
import { OID } from './der/oid.ts';
import { contextTag, type DerReader, TAG } from './der/reader.ts';
import {
  type DistributionPointName,
  readDistributionPointName,
  readReasonFlags,
} from './distribution-point.ts';
import { readListedExtension } from './extension-list.ts';

/** Which certificates and reasons a CRL covers (RFC 5280 §5.2.5). */
interface IssuingDistributionPoint {
  readonly distributionPoint: DistributionPointName | undefined;
  readonly onlyContains: 'any' | 'user-certificates' | 'authority-certificates' | 'attribute-certificates';
  /** Undefined where it covers all reasons. */
  readonly onlySomeReasons: readonly CrlReason[] | undefined;
  readonly indirectCrl: boolean;
}

/** The extensions of a CRL, those that are processed in typed form (RFC 5280 §5.2). */
export interface CrlExtensions {
  readonly crlNumber: bigint | undefined;
  readonly authorityKeyIdentifier: { readonly keyIdentifier: Uint8Array | undefined } | undefined;
  readonly issuingDistributionPoint: IssuingDistributionPoint | undefined;
  /** The number of the CRL to which this one is a supplement: then it is a delta CRL. */
  readonly deltaCrlIndicator: bigint | undefined;
  /** Object identifiers of critical extensions that are not processed. */
  readonly unknownCritical: readonly string[];
}

const MAX_EXTENSIONS = 32;

/** A BOOLEAN that DER leaves out where it is false, and widespread issuers do not. */
function flag(reader: DerReader, number: number): boolean {
  const tag = contextTag(number, 'primitive');
  return reader.nextIs(tag) && reader.boolean(tag);
}

function readIssuingDistributionPoint(value: DerReader): IssuingDistributionPoint {
  const inner = value.sequence();
  // RFC 5280 §5.2.5: it must say something.
  if (inner.done) inner.fail('an empty issuingDistributionPoint');
  const pointTag = contextTag(0, 'constructed');
  const distributionPoint = inner.nextIs(pointTag)
    ? readDistributionPointName(inner.enter(pointTag))
    : undefined;
  const user = flag(inner, 1);
  const authority = flag(inner, 2);
  const reasonsTag = contextTag(3, 'primitive');
  const onlySomeReasons = inner.nextIs(reasonsTag) ? readReasonFlags(inner, reasonsTag) : undefined;
  const indirectCrl = flag(inner, 4);
  const attribute = flag(inner, 5);
  inner.finish();
  if (Number(user) + Number(authority) + Number(attribute) > 1) {
    inner.fail('an issuingDistributionPoint for several kinds of certificates alone');
  }
  const onlyContains = user
    ? 'user-certificates'
    : authority
      ? 'authority-certificates'
      : attribute
        ? 'attribute-certificates'
        : 'any';
  return { distributionPoint, onlyContains, onlySomeReasons, indirectCrl };
}

function readNumber(value: DerReader): bigint {
  return crlNumberOfOctets(value.integer()) ?? value.fail('a CRL number that is negative or too long');
}

type Mutable = { -readonly [Key in keyof CrlExtensions]: CrlExtensions[Key] };

function readKnown(into: Mutable, oid: string, value: DerReader): boolean {
  switch (oid) {
    case OID.crlNumber:
      into.crlNumber = readNumber(value);
      return true;
    case OID.deltaCrlIndicator:
      into.deltaCrlIndicator = readNumber(value);
      return true;
    case OID.authorityKeyIdentifier: {
      const inner = value.sequence();
      const tag = contextTag(0, 'primitive');
      into.authorityKeyIdentifier = { keyIdentifier: inner.nextIs(tag) ? inner.content(tag) : undefined };
      while (!inner.done) inner.element();
      return true;
    }
    case OID.issuingDistributionPoint:
      into.issuingDistributionPoint = readIssuingDistributionPoint(value);
      return true;
    case OID.issuerAltName:
    case OID.freshestCrl:
    case OID.authorityInfoAccess:
      // Other names and further places: nothing in these changes what this CRL says.
      value.element(TAG.sequence);
      return true;
    default:
      return false;
  }
}

/** The extensions of a CRL without any. */
export const NO_CRL_EXTENSIONS: CrlExtensions = {
  crlNumber: undefined,
  authorityKeyIdentifier: undefined,
  issuingDistributionPoint: undefined,
  deltaCrlIndicator: undefined,
  unknownCritical: [],
};

/** Reads crlExtensions, a SEQUENCE OF Extension; one extension twice is refused (RFC 5280 §4.2). */
export function readCrlExtensions(list: DerReader): CrlExtensions {
  if (list.done) list.fail('an empty list of extensions');
  const result: Mutable = { ...NO_CRL_EXTENSIONS };
  const seen: string[] = [];
  const unknownCritical: string[] = [];
  while (!list.done) {
    const { oid, critical, value } = readListedExtension(list, seen, MAX_EXTENSIONS);
    if (readKnown(result, oid, value)) value.finish();
    else if (critical) unknownCritical.push(oid);
  }
  result.unknownCritical = unknownCritical;
  return result;
}
