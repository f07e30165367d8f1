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

const DAYS = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

function daysOf(year: number, month: number): number {
  const leap = month === 2 && year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return (DAYS[month - 1] ?? 0) + (leap ? 1 : 0);
}

/** What is wrong with a time that could not be read. */
type TimeFault = 'a malformed time' | 'a time that does not exist';

/**
 * The content octets of a UTCTime or GeneralizedTime to the second in UTC (RFC 5280 §4.1.2.5.1, §4.1.2.5.2); no object
 * is made, since a CRL has as many times as entries.
 */
export function decodeTime(tag: number, content: Uint8Array): Instant | TimeFault {
  const start = tag === TAG.utcTime ? 2 : 4;
  if (content.length !== start + 11 || content[content.length - 1] !== 0x5a) return 'a malformed time';
  let year = digits(content, 0, start);
  if (tag === TAG.utcTime) year += year >= 50 ? 1900 : 2000;
  const month = digits(content, start, 2);
  const day = digits(content, start + 2, 2);
  const hour = digits(content, start + 4, 2);
  const minute = digits(content, start + 6, 2);
  const second = digits(content, start + 8, 2);
  const real = year >= 0 && day >= 1 && day <= daysOf(year, month) && hour < 24 && minute < 60 && second < 60;
  if (!real) return 'a time that does not exist';
  // Date.UTC takes years before 100 for those of the twentieth century.
  const value = year >= 100 ? Date.UTC(year, month - 1, day, hour, minute, second) : Number.NaN;
  return isInstant(value) ? value : 'a time that does not exist';
}

/**
 * Reads a Time of a certificate or CRL: YYMMDDHHMMSSZ until 2049, YYYYMMDDHHMMSSZ after (RFC 5280 §4.1.2.5). A
 * GeneralizedTime before 2050 is wrong and means the same: `tolerant` reads it.
 */
export function readTime(reader: DerReader, form: 'strict' | 'tolerant' = 'strict'): Instant {
  const tag = reader.nextTag() === TAG.utcTime ? TAG.utcTime : TAG.generalizedTime;
  const value = decodeTime(tag, reader.content(tag));
  if (typeof value === 'string') reader.fail(value);
  if (form === 'strict' && tag === TAG.generalizedTime && value < FIRST_OF_2050) {
    reader.fail('a GeneralizedTime before 2050');
  }
  return value;
}

const FIRST_OF_2050 = Date.UTC(2050, 0, 1);

/** Reads a GeneralizedTime, whatever the year (RFC 6960 §4.2.1, RFC 5280 §5.3.2). */
export function readGeneralizedTime(reader: DerReader): Instant {
  const value = decodeTime(TAG.generalizedTime, reader.content(TAG.generalizedTime));
  if (typeof value === 'string') reader.fail(value);
  return value;
}

function encodeDigits(at: Instant, tag: number): Uint8Array {
  const date = new Date(at);
  const year = date.getUTCFullYear();
  const utc = tag === TAG.utcTime;
  const result = new Uint8Array(utc ? 15 : 17);
  let offset = 0;
  const pair = (value: number) => {
    result[offset++] = 0x30 + Math.floor(value / 10);
    result[offset++] = 0x30 + (value % 10);
  };
  result[offset++] = tag;
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

/** Encodes an Instant, cut to whole seconds, as RFC 5280 §4.1.2.5 demands: UTCTime until 2049. */
export function encodeTime(at: Instant): Uint8Array {
  const year = new Date(at).getUTCFullYear();
  return encodeDigits(at, year >= 1950 && year < 2050 ? TAG.utcTime : TAG.generalizedTime);
}

/** Encodes an Instant, cut to whole seconds, as GeneralizedTime, whatever the year. */
export function encodeGeneralizedTime(at: Instant): Uint8Array {
  return encodeDigits(at, TAG.generalizedTime);
}
