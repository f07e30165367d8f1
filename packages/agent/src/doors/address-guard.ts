import { peerAddress } from '@virt-trust/channel/peer-address.ts';

/** Whether a TCP peer's address is one that managers come from; the host itself always is. */
export type AddressGuard = (remoteAddress: string) => boolean;

/** Admits the given addresses and loopback, in whatever form a dual-stack socket reports them. */
export function addressGuard(managerAddresses: readonly string[]): AddressGuard {
  const admitted = new Set(managerAddresses.map((address) => peerAddress(address)));
  return (remoteAddress) => {
    const address = peerAddress(remoteAddress);
    return (
      (address !== '' && admitted.has(address)) || address === '::1' || /^127\.\d+\.\d+\.\d+$/.test(address)
    );
  };
}
