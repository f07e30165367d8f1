import type { Instant } from '@virt-trust/base/instant.ts';
import { type CrlReason, crlReasonCode, crlReasonOfCode } from './crl-reason.ts';
import { OID } from './der/oid.ts';
import { contextTag, DerReader, TAG } from './der/reader.ts';
import { encodeGeneralizedTime, encodeTime, readGeneralizedTime } from './der/time.ts';
import { element, sequence } from './der/writer.ts';
import { encodeExtension } from './extension-encode.ts';
import { readListedExtension } from './extension-list.ts';
import { type Name, readName } from './name.ts';
import { type SerialNumber, serialNumberOctets } from './serial-number.ts';

/** A revoked certificate as an entry of a CRL tells it (RFC 5280 §5.1.2.6, §5.3). */
export interface CrlEntry {
  readonly serialNumber: SerialNumber;
  readonly revocationDate: Instant;
  /** `unspecified` where the entry gives none. */
  readonly reason: CrlReason;
  readonly invalidityDate: Instant | undefined;
}

/** What goes into an entry. */
export interface CrlEntryFields {
  readonly serialNumber: SerialNumber;
  readonly revocationDate: Instant;
  readonly reason: CrlReason;
  readonly invalidityDate?: Instant;
}

/** The extensions of one entry, typed (RFC 5280 §5.3). */
export interface CrlEntryExtensions {
  readonly reason: CrlReason;
  readonly invalidityDate: Instant | undefined;
  /** Whose certificates this entry and those after it are about; only in indirect CRLs (RFC 5280 §5.3.3). */
  readonly certificateIssuer: readonly Name[] | undefined;
  readonly unknownCritical: readonly string[];
}

/** `[4]`, a directoryName among GeneralNames. */
const DIRECTORY = contextTag(4, 'constructed');
const MAX_EXTENSIONS = 16;

function readCertificateIssuer(value: DerReader): Name[] {
  const list = value.sequence();
  if (list.done) list.fail('an empty certificateIssuer');
  const names: Name[] = [];
  while (!list.done) {
    if (!list.nextIs(DIRECTORY)) {
      list.element();
      continue;
    }
    const inner = list.enter(DIRECTORY);
    names.push(readName(inner));
    inner.finish();
  }
  return names;
}

function readReason(value: DerReader): CrlReason {
  const content = value.content(TAG.enumerated);
  const reason = content.length === 1 ? crlReasonOfCode(content[0] as number) : undefined;
  return reason ?? value.fail('an unknown reasonCode');
}

/** Reads the content octets of an entry's crlEntryExtensions; throws `der.malformed`. */
export function readEntryExtensions(content: Uint8Array): CrlEntryExtensions {
  const list = DerReader.over(content, { what: 'CRL entry' });
  if (list.done) list.fail('an empty list of extensions');
  const seen: string[] = [];
  const unknownCritical: string[] = [];
  let reason: CrlReason = 'unspecified';
  let invalidityDate: Instant | undefined;
  let certificateIssuer: readonly Name[] | undefined;
  while (!list.done) {
    const { oid, critical, value } = readListedExtension(list, seen, MAX_EXTENSIONS);
    if (oid === OID.reasonCode) reason = readReason(value);
    else if (oid === OID.invalidityDate) invalidityDate = readGeneralizedTime(value);
    else if (oid === OID.certificateIssuer) certificateIssuer = readCertificateIssuer(value);
    else {
      // Instructions for a hold change nothing about its being one (RFC 5280 dropped them).
      if (critical && oid !== OID.holdInstructionCode) unknownCritical.push(oid);
      continue;
    }
    value.finish();
  }
  return { reason, invalidityDate, certificateIssuer, unknownCritical };
}

/** The crlEntryExtensions with a reasonCode alone, all but its last octet, which is the code. */
export const REASON_ALONE: Uint8Array = Uint8Array.of(0x30, 0x0a, 6, 3, 0x55, 0x1d, 0x15, 4, 3, 0x0a, 1);

/** Encodes an entry; `unspecified` is left out as RFC 5280 §5.3.1 wants it. */
export function encodeCrlEntry(fields: CrlEntryFields): Uint8Array {
  const { serialNumber, revocationDate, reason, invalidityDate } = fields;
  const extensions: Uint8Array[] = [];
  if (reason !== 'unspecified') extensions.push(REASON_ALONE, Uint8Array.of(crlReasonCode(reason)));
  if (invalidityDate !== undefined) {
    extensions.push(
      encodeExtension(OID.invalidityDate, 'not-critical', encodeGeneralizedTime(invalidityDate)),
    );
  }
  return sequence(
    element(TAG.integer, serialNumberOctets(serialNumber)),
    encodeTime(revocationDate),
    ...(extensions.length === 0 ? [] : [sequence(...extensions)]),
  );
}
