import { TrustError } from '@virt-trust/base/error.ts';
import { type Instant, isInstant } from '@virt-trust/base/instant.ts';

const ISO =
  /^(\d{4})-?(\d{2})-?(\d{2})(?:[T ]?(\d{2}):?(\d{2})(?::?(\d{2})(?:[.,]\d{1,9})?)?)?(Z|[+-]\d{2}:?\d{2})?$/i;
const OPENSSL = /^(?:notBefore=|notAfter=)?([A-Z][a-z]{2} +\d{1,2} \d{2}:\d{2}:\d{2} \d{4}) GMT$/;

/**
 * A time as people and programs write it: ISO 8601 with or without a zone (UTC then), a day (its first second), seconds
 * or milliseconds since 1970, or as `openssl x509 -dates` prints it.
 */
export function parseTimeWord(text: string): Instant {
  const word = text.trim();
  const value = fromEpoch(word) ?? fromIso(word) ?? fromOpenssl(word);
  if (isInstant(value)) return value;
  throw new TrustError(
    'check.usage',
    'invalid',
    `cannot check: ${JSON.stringify(text.slice(0, 40))} is not a time`,
    { hint: 'write 2026-11-22T04:00:00Z, 2026-11-22 (its first second in UTC), or seconds since 1970' },
  );
}

function fromEpoch(text: string): number | undefined {
  const [, at, digits = ''] = /^(@?)(\d{1,13})$/.exec(text) ?? [];
  // A year, or a day without its dashes, is no number of seconds.
  if (at === undefined || (at === '' && digits.length < 9)) return undefined;
  return Number(digits) * (digits.length > 11 ? 1 : 1000);
}

function fromIso(text: string): number | undefined {
  const [, year, month, day, hour = '00', minute = '00', second = '00', zone = 'Z'] = ISO.exec(text) ?? [];
  if (year === undefined) return undefined;
  const local = `${year}-${month}-${day}T${hour}:${minute}:${second}`;
  const value = Date.parse(`${local}Z`);
  // 30 February is no day, though Date takes it for one.
  if (Number.isNaN(value) || !new Date(value).toISOString().startsWith(local)) return undefined;
  const [, sign, hours = '0', minutes = '0'] = /^([+-])(\d{2}):?(\d{2})$/.exec(zone) ?? [];
  const offset = (Number(hours) * 60 + Number(minutes)) * 60_000;
  return sign === '-' ? value + offset : value - offset;
}

function fromOpenssl(text: string): number | undefined {
  const found = OPENSSL.exec(text)?.[1];
  return found === undefined ? undefined : Date.parse(`${found} GMT`);
}

/** A version out of how programs and packages write it: 9.0.0, 11.3, v10.2.0-rc1, 1:7.2+dfsg-7+deb12u18, 9.0.0-4.el9. */
export function parseVersionWord(option: string, text: string): string {
  const found = /^\s*(?:\d+:)?v?(\d{1,4}\.\d{1,4}(?:\.\d{1,4})?)(?:[-+~ ].*)?$/s.exec(text)?.[1];
  if (found !== undefined) return found;
  throw new TrustError(
    'check.usage',
    'invalid',
    `cannot check: ${JSON.stringify(text.slice(0, 40))} is not a version for ${option}`,
    { hint: 'write it as the program prints it, such as 9.0.0' },
  );
}
