import { OID } from './der/oid.ts';
import { type DerReader, TAG } from './der/reader.ts';
import { octetString } from './der/writer.ts';
import { encodeExtension } from './extension-encode.ts';
import { readListedExtension } from './extension-list.ts';

/** Extensions of an OCSP request, an answer or one of its parts (RFC 6960 §4.4). */
export interface OcspExtensions {
  readonly nonce: Uint8Array | undefined;
  /** Object identifiers of critical extensions that are not processed. */
  readonly unknownCritical: readonly string[];
}

/** Without any. */
export const NO_OCSP_EXTENSIONS: OcspExtensions = { nonce: undefined, unknownCritical: [] };

const MAX_EXTENSIONS = 16;
/** RFC 9654 §2.1: 1 to 128 octets; RFC 8954 allowed 32. */
const MAX_NONCE_OCTETS = 128;

/** What may be there, critical or not, and changes nothing about the answer that is given or believed. */
const HARMLESS: readonly string[] = [
  OID.ocspResponseTypes,
  OID.ocspServiceLocator,
  OID.ocspPreferredSignatureAlgorithms,
  OID.ocspExtendedRevoke,
  OID.signedCertificateTimestamps,
];

function readNonce(value: DerReader): Uint8Array {
  const nonce = value.content(TAG.octetString);
  value.finish();
  if (nonce.length === 0 || nonce.length > MAX_NONCE_OCTETS) value.fail('a nonce of a wrong length');
  return nonce;
}

/** Reads a SEQUENCE OF Extension; one extension twice is refused. */
export function readOcspExtensions(list: DerReader): OcspExtensions {
  if (list.done) list.fail('an empty list of extensions');
  const seen: string[] = [];
  const unknownCritical: string[] = [];
  let nonce: Uint8Array | undefined;
  while (!list.done) {
    const { oid, critical, value } = readListedExtension(list, seen, MAX_EXTENSIONS);
    if (oid === OID.ocspNonce) nonce = readNonce(value);
    else if (critical && !HARMLESS.includes(oid)) unknownCritical.push(oid);
  }
  return { nonce, unknownCritical };
}

/** The nonce extension (RFC 8954 §2.1). */
export function encodeNonce(nonce: Uint8Array): Uint8Array {
  return encodeExtension(OID.ocspNonce, 'not-critical', octetString(nonce));
}
