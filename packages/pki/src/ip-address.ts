import { TrustError } from '@virt-trust/base/error.ts';

/** Character by character: this runs for each name of each certificate. */
function octetsOfV4(text: string): number[] | undefined {
  if (text.length < 7 || text.length > 15) return undefined;
  const octets: number[] = [];
  let value = -1;
  for (let index = 0; index <= text.length; index++) {
    const code = index === text.length ? 0x2e : text.charCodeAt(index);
    if (code === 0x2e) {
      if (value < 0) return undefined;
      octets.push(value);
      value = -1;
      continue;
    }
    const digit = code - 0x30;
    // A leading zero is octal to some readers.
    if (digit < 0 || digit > 9 || value === 0) return undefined;
    value = value < 0 ? digit : value * 10 + digit;
    if (value > 255) return undefined;
  }
  return octets.length === 4 ? octets : undefined;
}

function octetsOfGroups(text: string, last: boolean): number[] | undefined {
  if (text === '') return [];
  const octets: number[] = [];
  const groups = text.split(':');
  for (const [index, group] of groups.entries()) {
    if (last && index === groups.length - 1 && group.includes('.')) {
      const tail = octetsOfV4(group);
      if (tail === undefined) return undefined;
      octets.push(...tail);
      continue;
    }
    if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined;
    const value = Number.parseInt(group, 16);
    octets.push(value >> 8, value & 0xff);
  }
  return octets;
}

function octetsOfV6(text: string): number[] | undefined {
  if (text.length > 45) return undefined;
  const halves = text.split('::');
  if (halves.length > 2) return undefined;
  const head = octetsOfGroups(halves[0] as string, halves.length === 1);
  if (head === undefined) return undefined;
  if (halves.length === 1) return head.length === 16 ? head : undefined;
  const tail = octetsOfGroups(halves[1] as string, true);
  if (tail === undefined || head.length + tail.length > 14) return undefined;
  return [...head, ...new Array<number>(16 - head.length - tail.length).fill(0), ...tail];
}

/** The 4 or 16 octets of a textual IP address without zone or brackets, or undefined where it is none. */
export function ipAddressOctets(text: string): Uint8Array | undefined {
  const octets = text.includes(':') ? octetsOfV6(text) : octetsOfV4(text);
  return octets === undefined ? undefined : Uint8Array.from(octets);
}

/** Whether the text is an IPv4 or IPv6 address. */
export function isIpAddress(text: string): boolean {
  return ipAddressOctets(text) !== undefined;
}

/** The canonical text of 4 or 16 octets (RFC 5952 §4), or undefined for any other number of them. */
export function formatIpOctets(octets: Uint8Array): string | undefined {
  if (octets.length === 4) return octets.join('.');
  if (octets.length !== 16) return undefined;
  const groups: number[] = [];
  for (let index = 0; index < 16; index += 2) {
    groups.push(((octets[index] as number) << 8) | (octets[index + 1] as number));
  }
  let best = { start: -1, length: 1 };
  for (let start = 0; start < 8; start++) {
    let length = 0;
    while (start + length < 8 && groups[start + length] === 0) length++;
    if (length > best.length) best = { start, length };
  }
  const hex = groups.map((group) => group.toString(16));
  if (best.start < 0) return hex.join(':');
  return `${hex.slice(0, best.start).join(':')}::${hex.slice(best.start + best.length).join(':')}`;
}

/** The canonical text of an IP address; throws `name.address_malformed`. */
export function canonicalIpAddress(text: string): string {
  const octets = ipAddressOctets(text);
  const canonical = octets === undefined ? undefined : formatIpOctets(octets);
  if (canonical === undefined) {
    throw new TrustError(
      'name.address_malformed',
      'invalid',
      `cannot read IP address ${JSON.stringify(text.slice(0, 60))}: neither IPv4 nor IPv6`,
    );
  }
  return canonical;
}
