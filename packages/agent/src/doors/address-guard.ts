import { canonicalIpAddress, isIpAddress } from '@virt-trust/pki/ip-address.ts';

/** Whether a TCP peer's address is one that managers come from; the host itself always is. */
export type AddressGuard = (remoteAddress: string) => boolean;

const MAPPED_V4 = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i;

/** Admits the given addresses and loopback, in whatever form a dual-stack socket reports them. */
export function addressGuard(managerAddresses: readonly string[]): AddressGuard {
  const admitted = new Set(managerAddresses.map(canonical));
  return (remoteAddress) => {
    const address = canonical(remoteAddress);
    return (
      (address !== '' && admitted.has(address)) || address === '::1' || /^127\.\d+\.\d+\.\d+$/.test(address)
    );
  };
}

function canonical(address: string): string {
  const bare = address.replace(/%.*$/, '');
  const text = MAPPED_V4.exec(bare)?.[1] ?? bare;
  return isIpAddress(text) ? canonicalIpAddress(text) : '';
}
