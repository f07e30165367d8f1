import { hash } from 'node:crypto';
import { OID } from './der/oid.ts';
import { DerReader, TAG } from './der/reader.ts';
import { element, NULL, octetString, oid, sequence } from './der/writer.ts';
import type { Name } from './name.ts';
import type { PublicKeyInfo } from './public-key-info.ts';
import { type SerialNumber, serialNumberOctets, serialNumberOfOctets } from './serial-number.ts';

/** The digest by which a CertID names an issuer: SHA-1 as RFC 5019 §2.1.1 has it, SHA-256 as newer clients. */
export type CertIdHash = 'sha1' | 'sha256';

/** Which certificate an OCSP request or answer is about (RFC 6960 §4.1.1). */
export interface CertId {
  readonly der: Uint8Array;
  /** Undefined for a digest that is not supported: such an issuer is never recognized. */
  readonly hash: CertIdHash | undefined;
  readonly issuerNameHash: Uint8Array;
  readonly issuerKeyHash: Uint8Array;
  readonly serialNumber: SerialNumber;
}

/** Of an issuing authority, what CertIDs are made from. */
interface CertIdIssuer {
  readonly subject: Name;
  readonly publicKey: PublicKeyInfo;
}

const HASHES: Readonly<Record<string, CertIdHash>> = { [OID.sha1]: 'sha1', [OID.sha256]: 'sha256' };
const MAX_SERIAL_OCTETS = 64;
const MAX_HASH_OCTETS = 64;

/** Reads the next CertID. */
export function readCertId(reader: DerReader): CertId {
  const der = reader.element(TAG.sequence);
  const fields = DerReader.over(der, { what: 'CertID' }).sequence();
  const algorithm = fields.sequence();
  const digest = algorithm.oid();
  // Parameters NULL or absent: both are about (RFC 5754 §2).
  if (!algorithm.done) algorithm.element(TAG.null);
  algorithm.finish();
  const issuerNameHash = fields.content(TAG.octetString);
  const issuerKeyHash = fields.content(TAG.octetString);
  const serial = fields.content(TAG.integer);
  fields.finish();
  if (serial.length === 0 || serial.length > MAX_SERIAL_OCTETS)
    fields.fail('a serial number of a wrong length');
  if (issuerNameHash.length > MAX_HASH_OCTETS || issuerKeyHash.length > MAX_HASH_OCTETS) {
    fields.fail('a digest that is too long');
  }
  const serialNumber = serialNumberOfOctets(serial);
  return { der, hash: HASHES[digest], issuerNameHash, issuerKeyHash, serialNumber };
}

/** The digests of an issuer's name and key, by which CertIDs name it. */
export interface IssuerHashes {
  readonly hash: CertIdHash;
  readonly name: Uint8Array;
  readonly key: Uint8Array;
}

/** Digests an issuer's name and key (RFC 6960 §4.1.1: the Name's DER, the content of the key's BIT STRING). */
export function issuerHashes(issuer: CertIdIssuer, digest: CertIdHash): IssuerHashes {
  return {
    hash: digest,
    name: hash(digest, issuer.subject.der, 'buffer'),
    key: hash(digest, issuer.publicKey.keyBits, 'buffer'),
  };
}

/** Whether a CertID names that issuer. */
export function namesIssuer(certId: CertId, issuer: IssuerHashes): boolean {
  return (
    certId.hash === issuer.hash &&
    Buffer.compare(certId.issuerNameHash, issuer.name) === 0 &&
    Buffer.compare(certId.issuerKeyHash, issuer.key) === 0
  );
}

/** Encodes the CertID of a certificate of that issuer. */
export function encodeCertId(issuer: IssuerHashes, serialNumber: SerialNumber): Uint8Array {
  return sequence(
    sequence(oid(OID[issuer.hash]), NULL),
    octetString(issuer.name),
    octetString(issuer.key),
    element(TAG.integer, serialNumberOctets(serialNumber)),
  );
}
