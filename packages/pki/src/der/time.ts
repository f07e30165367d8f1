import { type Instant, isInstant } from '@virt-trust/base/instant.ts';
import { type DerReader, TAG } from './reader.ts';

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
  const date = new Date(at);
  const year = date.getUTCFullYear();
  const utc = year >= 1950 && year < 2050;
  const result = new Uint8Array(utc ? 15 : 17);
  let offset = 0;
  const pair = (value: number) => {
    result[offset++] = 0x30 + Math.floor(value / 10);
    result[offset++] = 0x30 + (value % 10);
  };
  result[offset++] = utc ? TAG.utcTime : TAG.generalizedTime;
  result[offset++] = utc ? 13 : 15;
  if (!utc) pair(Math.floor(year / 100));
  pair(year % 100);
  pair(date.getUTCMonth() + 1);
  pair(date.getUTCDate());
  pair(date.getUTCHours());
  pair(date.getUTCMinutes());
  pair(date.getUTCSeconds());
  result[offset] = 0x5a;
  return result;
}
