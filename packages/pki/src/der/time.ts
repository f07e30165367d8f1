import { type Instant, isInstant } from '@virt-trust/base/instant.ts';
import { type DerReader, TAG } from './reader.ts';
import { element } from './writer.ts';

function digits(content: Uint8Array, from: number, count: number): number {
  let value = 0;
  for (let index = from; index < from + count; index++) {
    const digit = (content[index] as number) - 0x30;
    if (!(digit >= 0 && digit <= 9)) return Number.NaN;
    value = value * 10 + digit;
  }
  return value;
}

/** Reads a Time of a certificate: YYMMDDHHMMSSZ until 2049, YYYYMMDDHHMMSSZ after (RFC 5280 §4.1.2.5). */
export function readTime(reader: DerReader): Instant {
  const tag = reader.nextTag();
  const utc = tag === TAG.utcTime;
  const content = reader.content(utc ? TAG.utcTime : TAG.generalizedTime);
  const start = utc ? 2 : 4;
  if (content.length !== start + 11 || content[content.length - 1] !== 0x5a) reader.fail('a malformed time');
  let year = digits(content, 0, start);
  if (utc) year += year >= 50 ? 1900 : 2000;
  const month = digits(content, start, 2);
  const day = digits(content, start + 2, 2);
  const hour = digits(content, start + 4, 2);
  const minute = digits(content, start + 6, 2);
  const second = digits(content, start + 8, 2);
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  date.setUTCHours(hour, minute, second);
  const value = date.getTime();
  // The 31st of February and the 61st second are normalised by Date, so they differ when read back.
  const exact =
    date.getUTCMonth() === month - 1 &&
    date.getUTCDate() === day &&
    date.getUTCHours() === hour &&
    date.getUTCMinutes() === minute &&
    date.getUTCSeconds() === second;
  if (!exact || !isInstant(value)) reader.fail('a time that does not exist');
  if (!utc && year < 2050) reader.fail('a GeneralizedTime before 2050');
  return value;
}

/** Encodes an Instant, cut to whole seconds, as RFC 5280 §4.1.2.5 demands: UTCTime until 2049. */
export function encodeTime(at: Instant): Uint8Array {
  const text = new Date(at).toISOString();
  const year = Number(text.slice(0, 4));
  const compact = `${text.slice(0, 4)}${text.slice(5, 7)}${text.slice(8, 10)}${text.slice(11, 13)}${text.slice(14, 16)}${text.slice(17, 19)}Z`;
  const utc = year >= 1950 && year < 2050;
  return element(
    utc ? TAG.utcTime : TAG.generalizedTime,
    Buffer.from(utc ? compact.slice(2) : compact, 'latin1'),
  );
}
