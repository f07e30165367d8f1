import { TrustError } from '@virt-trust/base/error.ts';

const MAX_OCTETS = 20;

/** Parses a CRL number in hexadecimal; throws `crl.number_malformed` (RFC 5280 §5.2.3: at most 20 octets). */
export function parseCrlNumber(text: string): bigint {
  if (!/^[0-9a-f]{1,40}$/.test(text)) {
    throw new TrustError(
      'crl.number_malformed',
      'invalid',
      `cannot read CRL number ${JSON.stringify(text.slice(0, 60))}: not 1 to 40 digits of hexadecimal`,
    );
  }
  return BigInt(`0x${text}`);
}

/** A CRL number in lower-case hexadecimal without leading zeros. */
export function formatCrlNumber(number: bigint): string {
  return number.toString(16);
}

/** The number in the content octets of an INTEGER, undefined where it is negative or longer than allowed. */
export function crlNumberOfOctets(octets: Uint8Array): bigint | undefined {
  if ((octets[0] ?? 0x80) >= 0x80 || octets.length > MAX_OCTETS) return undefined;
  return BigInt(`0x${Buffer.from(octets).toString('hex')}`);
}

/** The content octets of the INTEGER; throws `crl.number_malformed` for a number out of range. */
export function crlNumberOctets(number: bigint): Uint8Array {
  const hex = number < 0n ? '' : number.toString(16);
  const octets = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  const padded = (octets[0] ?? 0) >= 0x80 ? Buffer.concat([Uint8Array.of(0), octets]) : octets;
  if (padded.length === 0 || padded.length > MAX_OCTETS) {
    throw new TrustError('crl.number_malformed', 'invalid', `cannot use CRL number ${number}: out of range`);
  }
  return padded;
}
