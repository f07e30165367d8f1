import { type CrlReason, crlReasonOfCode } from './crl-reason.ts';
import { OID } from './der/oid.ts';
import { contextTag, DerReader } from './der/reader.ts';
import { element, oid, sequence } from './der/writer.ts';
import { encodeExtension } from './extension-encode.ts';
import { encodeGeneralName, type GeneralName, readGeneralName } from './general-name.ts';
import { namesEqual } from './name.ts';

/** Where a CRL is to be had (RFC 5280 §4.2.1.13, §5.2.5); a name relative to the CRL's issuer is kept undecoded. */
export type DistributionPointName =
  | { readonly kind: 'full'; readonly names: readonly GeneralName[] }
  | { readonly kind: 'relative'; readonly der: Uint8Array };

/** One DistributionPoint of a certificate (RFC 5280 §4.2.1.13). */
export interface DistributionPoint {
  readonly name: DistributionPointName | undefined;
  /** The reasons that its CRL covers; undefined for all. */
  readonly reasons: readonly CrlReason[] | undefined;
  readonly crlIssuer: readonly GeneralName[];
}

const MAX_POINTS = 64;
const MAX_NAMES = 64;

function readNames(reader: DerReader): GeneralName[] {
  const names: GeneralName[] = [];
  while (!reader.done) {
    if (names.length >= MAX_NAMES) reader.fail(`more than ${MAX_NAMES} names`);
    names.push(readGeneralName(reader));
  }
  if (names.length === 0) reader.fail('an empty list of names');
  return names;
}

/** Reads the DistributionPointName that is all that is left in the reader. */
export function readDistributionPointName(reader: DerReader): DistributionPointName {
  const full = contextTag(0, 'constructed');
  if (!reader.nextIs(full)) {
    const der = reader.element(contextTag(1, 'constructed'));
    reader.finish();
    return { kind: 'relative', der };
  }
  const names = readNames(reader.enter(full));
  reader.finish();
  return { kind: 'full', names };
}

/** The bits of ReasonFlags in their order; bit 0 is unused, and they differ from CRLReason from 7 on. */
const REASON_FLAGS: readonly (CrlReason | undefined)[] = [
  undefined,
  ...[1, 2, 3, 4, 5, 6].map(crlReasonOfCode),
  'privilegeWithdrawn',
  'aACompromise',
];

/** Reads ReasonFlags (RFC 5280 §4.2.1.13). */
export function readReasonFlags(reader: DerReader, tag: number): CrlReason[] {
  return reader
    .namedBits(tag)
    .map((bit) => REASON_FLAGS[bit])
    .filter((reason) => reason !== undefined);
}

/** Parses cRLDistributionPoints; throws `der.malformed` (RFC 5280 §4.2.1.13). */
export function parseDistributionPoints(der: Uint8Array): DistributionPoint[] {
  const reader = DerReader.over(der, { what: 'cRLDistributionPoints', maxBytes: 64 * 1024 });
  const list = reader.sequence();
  reader.finish();
  const points: DistributionPoint[] = [];
  while (!list.done) {
    if (points.length >= MAX_POINTS) list.fail(`more than ${MAX_POINTS} distribution points`);
    const point = list.sequence();
    const nameTag = contextTag(0, 'constructed');
    const name = point.nextIs(nameTag) ? readDistributionPointName(point.enter(nameTag)) : undefined;
    const reasonsTag = contextTag(1, 'primitive');
    const reasons = point.nextIs(reasonsTag) ? readReasonFlags(point, reasonsTag) : undefined;
    const issuerTag = contextTag(2, 'constructed');
    const crlIssuer = point.nextIs(issuerTag) ? readNames(point.enter(issuerTag)) : [];
    point.finish();
    points.push({ name, reasons, crlIssuer });
  }
  return points;
}

function sameGeneralName(left: GeneralName, right: GeneralName): boolean {
  if (left.kind === 'directory' && right.kind === 'directory') return namesEqual(left.value, right.value);
  return Buffer.compare(encodeAny(left), encodeAny(right)) === 0;
}

/** A comparable form; text is compared as it is, since encoding refuses what a peer may well have sent. */
function encodeAny(name: GeneralName): Uint8Array {
  const value = name.kind === 'other' ? name.value : name.kind === 'directory' ? name.value.der : name.value;
  return Buffer.concat([Buffer.from(`${name.kind}:`), Buffer.from(value)]);
}

/** Whether two places have a name in common (RFC 5280 §6.3.3 (b)(2)(i)). */
export function distributionPointsMeet(left: DistributionPointName, right: DistributionPointName): boolean {
  if (left.kind === 'relative' || right.kind === 'relative') {
    // SECURITY: equal only where the bytes are; a relative and a full name are never taken for the same.
    return left.kind === right.kind && Buffer.compare(relativeDer(left), relativeDer(right)) === 0;
  }
  return left.names.some((name) => right.names.some((other) => sameGeneralName(name, other)));
}

function relativeDer(name: DistributionPointName): Uint8Array {
  return name.kind === 'relative' ? name.der : new Uint8Array(0);
}

/** Where the status of a certificate is to be had: its authority's CRL and OCSP responder, by HTTP. */
export interface StatusLocations {
  readonly crl: string;
  readonly ocsp: string;
}

/** cRLDistributionPoints with one point of one URI (RFC 5280 §4.2.1.13: not critical). */
export function encodeCrlDistributionPoints(uri: string): Uint8Array {
  const fullName = element(contextTag(0, 'constructed'), encodeGeneralName({ kind: 'uri', value: uri }));
  const point = sequence(element(contextTag(0, 'constructed'), fullName));
  return encodeExtension(OID.crlDistributionPoints, 'not-critical', sequence(point));
}

/** authorityInfoAccess with the URI of an OCSP responder (RFC 5280 §4.2.2.1: not critical). */
export function encodeOcspAccess(uri: string): Uint8Array {
  const description = sequence(oid(OID.accessOcsp), encodeGeneralName({ kind: 'uri', value: uri }));
  return encodeExtension(OID.authorityInfoAccess, 'not-critical', sequence(description));
}
