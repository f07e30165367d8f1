import type { Brand } from '@virt-trust/base/brand.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';

/** A certificate's serial number: lower-case hexadecimal, two digits an octet, no leading zero octet. */
export type SerialNumber = Brand<string, 'SerialNumber'>;

const FORM = /^(?:00|(?!00)(?:[0-9a-f]{2}){1,20})$/;

/** Whether a text is a serial number as virt-trust writes it: what others claim may be none. */
export function isSerialNumber(text: string): text is SerialNumber {
  return FORM.test(text);
}

/** Parses a serial number as virt-trust writes it; throws `serial_number.malformed`. */
export function parseSerialNumber(text: string): SerialNumber {
  if (!isSerialNumber(text)) {
    throw new TrustError(
      'serial_number.malformed',
      'invalid',
      `cannot read serial number ${JSON.stringify(text.slice(0, 60))}: not 1 to 20 octets of hexadecimal`,
    );
  }
  return text;
}

const OCTETS = 17;
const BATCH = 512;
const batches = new WeakMap<Randomness, { readonly octets: Uint8Array; used: number }>();

/** The next fresh octets; asked for in batches, since the request costs as much as encoding a certificate. */
function nextOctets(randomness: Randomness): Uint8Array {
  let batch = batches.get(randomness);
  if (batch === undefined || batch.used >= batch.octets.length) {
    batch = { octets: Uint8Array.from(randomness.bytes(OCTETS * BATCH)), used: 0 };
    batches.set(randomness, batch);
  }
  batch.used += OCTETS;
  return batch.octets.subarray(batch.used - OCTETS, batch.used);
}

/** A serial number of 17 octets with more than 128 random bits, positive by its first (RFC 5280 §4.1.2.2). */
export function newSerialNumber(randomness: Randomness): SerialNumber {
  const octets = nextOctets(randomness);
  // Always 17 octets: never negative, never shortened, and the same length in every template.
  octets[0] = ((octets[0] as number) & 0x3f) | 0x40;
  return Buffer.from(octets.buffer, octets.byteOffset, OCTETS).toString('hex') as SerialNumber;
}

/** The serial number of the content octets of a non-negative INTEGER. */
export function serialNumberOfOctets(octets: Uint8Array): SerialNumber {
  const from = octets.length > 1 && octets[0] === 0 ? 1 : 0;
  return Buffer.from(octets.buffer, octets.byteOffset + from, octets.length - from).toString(
    'hex',
  ) as SerialNumber;
}

/** The content octets of the INTEGER. */
export function serialNumberOctets(serialNumber: SerialNumber): Uint8Array {
  const octets = Buffer.from(serialNumber, 'hex');
  return (octets[0] as number) < 0x80 ? octets : Buffer.concat([Uint8Array.of(0), octets]);
}
