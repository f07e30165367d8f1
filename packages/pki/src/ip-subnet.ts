import { formatIpOctets, ipAddressOctets } from './ip-address.ts';

/** A network prefix (RFC 4632 §3.1, RFC 4291 §2.3): an address whose bits after the prefix are zero. */
export interface IpSubnet {
  readonly octets: Uint8Array;
  readonly prefixLength: number;
  /** Canonical, `10.0.0.0/8` or `fd00::/8`. */
  readonly text: string;
}

/** The subnet that a text such as `10.0.1.0/24` says, or why it says none. */
export function parseIpSubnet(text: string): IpSubnet | { readonly problem: string } {
  const slash = text.indexOf('/');
  const octets = slash < 0 ? undefined : ipAddressOctets(text.slice(0, slash));
  if (octets === undefined) return { problem: 'not a subnet such as 10.0.1.0/24 or fd00:1::/64' };
  const bits = octets.length * 8;
  const length = text.slice(slash + 1);
  if (!/^(?:0|[1-9]\d{0,2})$/.test(length) || Number(length) > bits)
    return { problem: `not a subnet: its prefix length is not from 0 to ${bits}` };
  const prefixLength = Number(length);
  const masked = octets.map((octet, index) => octet & maskOf(index, prefixLength));
  const network = `${formatIpOctets(masked)}/${prefixLength}`;
  if (masked.some((octet, index) => octet !== octets[index]))
    return { problem: `an address with bits after its prefix; the subnet is ${network}` };
  return { octets: masked, prefixLength, text: network };
}

/** Whether an address is one of the subnet's; false for what is no address, and for one of the other family. */
export function isInSubnet(subnet: IpSubnet, address: string): boolean {
  const octets = ipAddressOctets(address);
  return (
    octets !== undefined &&
    octets.length === subnet.octets.length &&
    octets.every((octet, index) => (octet & maskOf(index, subnet.prefixLength)) === subnet.octets[index])
  );
}

/** The bits of one octet that belong to the prefix. */
function maskOf(index: number, prefixLength: number): number {
  const bits = Math.min(8, Math.max(0, prefixLength - index * 8));
  return (0xff << (8 - bits)) & 0xff;
}
