import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';

const MAPPED_V4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** An address as a socket reports it, without zone and not as IPv4 mapped into IPv6, in canonical form; empty where it is none. */
export function peerAddress(address: string | undefined): string {
  const bare = (address ?? '').replace(/%.*$/, '');
  const text = MAPPED_V4.exec(bare)?.[1] ?? bare;
  return isIpAddress(text) ? canonicalIpAddress(text) : '';
}
