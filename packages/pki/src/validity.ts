import type { Instant } from '@virt-trust/base/instant.ts';
import { DerReader, TAG } from './der/reader.ts';
import { encodeTime, readTime } from './der/time.ts';
import { sequence } from './der/writer.ts';

/** From when until when a certificate is valid (RFC 5280 §4.1.2.5), as its bytes say. */
export interface Validity {
  readonly der: Uint8Array;
  readonly notBefore: Instant;
  readonly notAfter: Instant;
}

/** Reads a Validity; the same bytes as `known` are not parsed again. */
export function readValidity(
  reader: DerReader,
  known?: Validity,
  form: 'strict' | 'tolerant' = 'strict',
): Validity {
  if (known !== undefined && reader.skip(known.der)) return known;
  const der = reader.element(TAG.sequence);
  const fields = DerReader.over(der, { what: 'validity' }).sequence();
  const notBefore = readTime(fields, form);
  const notAfter = readTime(fields, form);
  fields.finish();
  return { der, notBefore, notAfter };
}

/** Encodes a Validity, cut to whole seconds, and reads back what was written. */
function encodeValidity(notBefore: Instant, notAfter: Instant): Validity {
  const der = sequence(encodeTime(notBefore), encodeTime(notAfter));
  return readValidity(DerReader.over(der, { what: 'validity' }));
}

const second = (at: Instant): number => Math.floor(at / 1000);
let last: Validity | undefined;

/** The Validity of a certificate that is being made; those made in one second mostly share it. */
export function validityBetween(notBefore: Instant, notAfter: Instant): Validity {
  if (
    last === undefined ||
    second(last.notBefore) !== second(notBefore) ||
    second(last.notAfter) !== second(notAfter)
  ) {
    last = encodeValidity(notBefore, notAfter);
  }
  return last;
}
