import { isIP } from 'node:net';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { probeLibvirt } from '@virt-trust/connect/probe-libvirt.ts';
import type { DesiredCredential } from '@virt-trust/contract/model/desired-state.ts';
import type { FoundTlsFile } from '@virt-trust/contract/model/inventory.ts';
import type { ObservedCredential, Proof, ProofVerdict } from '@virt-trust/contract/model/observed-state.ts';
import { LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import type { OwnClient } from './ports.ts';

export interface LibvirtProofInput {
  readonly desired: DesiredCredential;
  /** Where the manager reaches the host's services. */
  readonly addresses: readonly string[];
  /** Where its agent answers: dialled where the certificate has names alone. */
  readonly channelAddress: string;
  readonly candidate: NonNullable<ObservedCredential['candidate']>;
  /** What the host trusted before; it is trusted here too while the found certificate is served. */
  readonly foundFiles: readonly FoundTlsFile[];
  readonly client: OwnClient;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/**
 * The manager's half of libvirt's proof: on each address of management the real handshake from outside, with a client certificate
 * of the manager's own, up to the confirmation byte and the answer to AUTH_LIST; and that what was served is what the
 * agent switched to. Never throws: the verdict says what went wrong, and the agent goes back.
 */
export async function proveLibvirt(input: LibvirtProofInput): Promise<ProofVerdict> {
  const { service } = input.desired;
  const { generation } = input.candidate;
  try {
    const { dns } = input.desired.names;
    const addresses = addressesOf(input);
    const proofs = await Promise.all(
      addresses.length > 0
        ? addresses.map((address) => handshake(input, address, address))
        : dns.slice(0, 1).map((name) => handshake(input, input.channelAddress, name)),
    );
    const proof = proofs[0];
    if (proof === undefined)
      throw new TrustError(
        'proof.no_address',
        'failed',
        'cannot prove libvirt: the host has neither an address nor a name',
      );
    const targets = proofs
      .map((one) => one.target)
      .join(', ')
      .slice(0, 1024);
    return { service, generation, verdict: { kind: 'proven', proof: { ...proof, target: targets } } };
  } catch (error) {
    return { service, generation, verdict: { kind: 'refused', reason: describeError(error).slice(0, 4000) } };
  }
}

/** Of those that are in the certificate; the agent proves the others from within. */
function addressesOf({ addresses, desired }: LibvirtProofInput): readonly string[] {
  const certified = desired.names.addresses.filter((address) => addresses.includes(address));
  return certified.length > 0 ? certified : desired.names.addresses;
}

async function handshake(input: LibvirtProofInput, address: string, name: string): Promise<Proof> {
  const foundTrust = input.foundFiles
    .filter((file) => file.role === 'ca' && file.service === 'libvirt')
    .map((file) => file.pem ?? '');
  const evidence = await probeLibvirt({
    host: address,
    port: LIBVIRT_TLS_PORT,
    // What was found may lack the address; it is served unchanged, so the pin alone is compared.
    serverName: input.desired.identity === 'ours' ? name : null,
    trust: [input.desired.bundle, ...foundTrust].join('\n'),
    client: { certificatePem: input.client.certificatePem, privateKeyPem: input.client.privateKeyPem },
    clock: input.clock,
    timeoutMs: 20_000,
    signal: input.signal,
  });
  const servedPin = evidence.servedCertificate.pin;
  if (input.candidate.pin !== null && servedPin !== input.candidate.pin) {
    throw new TrustError(
      'proof.other_certificate',
      'failed',
      `cannot prove libvirt on ${address}: it serves ${servedPin}, not ${input.candidate.pin}`,
    );
  }
  return {
    kind: 'handshake',
    target: `${isIP(address) === 6 ? `[${address}]` : address}:${LIBVIRT_TLS_PORT}`,
    at: input.clock.now(),
    by: 'manager',
    servedPin,
    detail: `${evidence.protocol}, confirmation byte, AUTH_LIST ${evidence.authList.join(' ')}`.trim(),
  };
}
