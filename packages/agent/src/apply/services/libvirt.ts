import { isIP } from 'node:net';
import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { pinMatches } from '@virt-trust/base/spki-pin.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import { LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import type { Expectation } from '../host-effects.ts';
import { seeTls } from './tls-sight.ts';

/**
 * Sees the daemon serve the certificate on every address of its endpoints. The host has no client certificate, so
 * the server ends the connection after the handshake: that it takes clients is the manager's half of the proof.
 */
export async function proveLibvirt(
  expectation: Expectation,
  clock: Clock,
  port = LIBVIRT_TLS_PORT,
): Promise<Proof[]> {
  const addresses = expectation.addresses.length > 0 ? expectation.addresses : ['127.0.0.1'];
  const proofs: Proof[] = [];
  for (const address of addresses) {
    const { pin, protocol } = await seeTls(address, port, 'libvirt');
    if (!pinMatches(pin, [expectation.pin])) {
      throw new TrustError(
        'proof.other_certificate',
        'failed',
        `cannot see our certificate of libvirt at ${address} port ${port}: another key is served (${pin})`,
        {
          hint: 'see whether something else listens on this port, or the daemon refused the reload (its log says why)',
        },
      );
    }
    proofs.push({
      kind: 'handshake',
      target: `${isIP(address) === 6 ? `[${address}]` : address}:${port}`,
      at: clock.now(),
      by: 'agent',
      servedPin: pin,
      detail: protocol,
    });
  }
  return proofs;
}
