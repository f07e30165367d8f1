import type { Instant } from '@virt-trust/base/instant.ts';
import { type DerReader, TAG } from '@virt-trust/pki/der/reader.ts';

/**
 * A Time as GnuTLS reads it (_gnutls_utcTime2gtime, _gnutls_x509_generalTime2gtime in lib/x509/time.c): seconds may be
 * missing, days that do not exist run into the next month, either form at any year; only UTC.
 */
export function readTimeAsGnutls(reader: DerReader): Instant {
  const utc = reader.nextIs(TAG.utcTime);
  const text = Buffer.from(reader.content(utc ? TAG.utcTime : TAG.generalizedTime)).toString('latin1');
  const found = /^(\d{2}|\d{4})(\d{2})(\d{2})(\d{2})(\d{2})(\d{2})?(?:\.\d+)?Z$/.exec(text);
  if (found === null || (found[1]?.length === 2) !== utc) return reader.fail('a malformed time');
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = found.slice(1).map(Number);
  if (month < 1 || month > 12) reader.fail('a time that does not exist');
  const date = new Date(0);
  date.setUTCFullYear(utc ? year + (year >= 50 ? 1900 : 2000) : year, month - 1, day);
  date.setUTCHours(hour, minute, Number.isNaN(second) ? 0 : second);
  return date.getTime() as Instant;
}
