import { formatIpOctets, ipAddressOctets } from '@virt-trust/pki/ip-address.ts';

/** The one form of a name or address in which hosts are compared: `fd00::0:1` and `FD00::1` are one address. */
export function claimKey(name: string): string {
  const octets = ipAddressOctets(name);
  return (octets === undefined ? undefined : formatIpOctets(octets)) ?? name.toLowerCase().replace(/\.$/, '');
}
