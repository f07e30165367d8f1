import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import { LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import type { Host } from '../hosts/host.ts';
import { managementAddresses } from '../hosts/management-addresses.ts';
import type { OwnClient } from '../hosts/ports.ts';

export interface HostProofInput {
  readonly host: Host;
  /** PEM of what the host's libvirt certificate chains to. */
  readonly trust: string;
  readonly good: OwnClient;
  /** The client on the newest CRL, null where its key is gone. */
  readonly canary: OwnClient | null;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** What a host's libvirtd did with a revoked client. */
export type HostProof =
  | { readonly kind: 'refused' }
  /** It lets a revoked client in. */
  | { readonly kind: 'accepted' }
  | { readonly kind: 'untried'; readonly reason: string };

const TIMEOUT_MS = 10_000;

/**
 * Dials a host's libvirtd as a client that its newest CRL revokes and as one that it does not: only where the one is
 * refused after the handshake and the other is let in has it loaded that CRL.
 */
export async function proveRefusal(input: HostProofInput): Promise<HostProof> {
  const { host, canary, good } = input;
  const [address] = managementAddresses(host);
  if (canary === null) return { kind: 'untried', reason: 'the CRL has no canary whose key this manager has' };
  if (address === undefined) return { kind: 'untried', reason: 'the host has no declared address' };
  const dial = (client: OwnClient) =>
    probeLibvirt({
      host: address,
      port: LIBVIRT_TLS_PORT,
      // What was found on a host may lack the address; what counts here is whom it lets in.
      serverName: null,
      trust: trustOf(input),
      client: { certificatePem: client.certificatePem, privateKeyPem: client.privateKeyPem },
      clock: input.clock,
      timeoutMs: TIMEOUT_MS,
      signal: input.signal,
    });
  try {
    await dial(good);
  } catch (error) {
    return { kind: 'untried', reason: describeError(error) };
  }
  try {
    await dial(canary);
    return { kind: 'accepted' };
  } catch (error) {
    if (isTrustError(error, 'probe.confirmation')) return { kind: 'refused' };
    return { kind: 'untried', reason: describeError(error) };
  }
}

function trustOf({ host, trust }: HostProofInput): string {
  const found = (host.inventory?.tlsFiles ?? [])
    .filter(({ role, service }) => role === 'ca' && service === 'libvirt')
    .map(({ pem }) => pem ?? '');
  return [trust, ...found].join('\n');
}
