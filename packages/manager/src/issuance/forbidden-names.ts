import { ipAddressOctets } from '@virt-trust/pki/ip-address.ts';

/** Why an address never stands for one host, whoever declared it, or undefined where it can (RFC 6890). */
export function addressOfNobody(
  text: string,
): { readonly rule: string; readonly reason: string } | undefined {
  const octets = ipAddressOctets(text);
  if (octets === undefined) return { rule: 'issuance.name_malformed', reason: 'it is no IP address' };
  return octets.length === 4 ? v4(octets) : v6(octets);
}

const at = (octets: Uint8Array, index: number): number => octets[index] ?? 0;

function v4(octets: Uint8Array) {
  const first = at(octets, 0);
  if (first === 127) return { rule: 'issuance.address_loopback', reason: 'it is a loopback address' };
  if (first === 169 && at(octets, 1) === 254) {
    return { rule: 'issuance.address_link_local', reason: 'it is a link-local address' };
  }
  if (first === 0) return { rule: 'issuance.address_unspecified', reason: 'it is no address of a host' };
  // Multicast, reserved and broadcast: 224.0.0.0 and all above.
  if (first >= 224)
    return { rule: 'issuance.address_multicast', reason: 'it is a multicast or reserved address' };
  return undefined;
}

function v6(octets: Uint8Array) {
  const zeros = octets.findIndex((octet) => octet !== 0);
  if (zeros === -1) return { rule: 'issuance.address_unspecified', reason: 'it is no address of a host' };
  if (zeros === 15 && at(octets, 15) === 1) {
    return { rule: 'issuance.address_loopback', reason: 'it is a loopback address' };
  }
  if (at(octets, 0) === 0xfe && (at(octets, 1) & 0xc0) === 0x80) {
    return { rule: 'issuance.address_link_local', reason: 'it is a link-local address' };
  }
  if (at(octets, 0) === 0xff)
    return { rule: 'issuance.address_multicast', reason: 'it is a multicast address' };
  // SECURITY: an IPv4 address in IPv6 clothes would pass every rule that looks at IPv4.
  if (zeros === 10 && at(octets, 10) === 0xff && at(octets, 11) === 0xff) {
    return { rule: 'issuance.address_mapped', reason: 'it is an IPv4-mapped address' };
  }
  return undefined;
}

/** Why a DNS name never stands for one host, whoever declared it, or undefined where it can (RFC 6761 §6.3). */
export function dnsNameOfNobody(
  name: string,
): { readonly rule: string; readonly reason: string } | undefined {
  if (name === 'localhost' || name.endsWith('.localhost') || name.startsWith('localhost.')) {
    return { rule: 'issuance.name_loopback', reason: 'it is a loopback name' };
  }
  return undefined;
}
