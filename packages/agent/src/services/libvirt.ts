import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { inParallel } from '@virt-trust/base/in-parallel.ts';
import { pinMatches } from '@virt-trust/base/spki-pin.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import { LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import type { Expectation } from './host-effects.ts';
import { hostPort, notSeenFromHere, readOwnAddresses, withNote } from './reach.ts';
import { seeTls, type TlsSight } from './tls-sight.ts';

const AT_ONCE = 16;

/**
 * Sees the daemon serve the certificate on every address of its endpoints that the host has, or on the loopback. The
 * host has no client certificate, so the server ends the connection after the handshake: that it takes clients is the
 * manager's half of the proof.
 */
export async function proveLibvirt(
  expectation: Expectation,
  run: RunHostCommand,
  clock: Clock,
  port = LIBVIRT_TLS_PORT,
): Promise<Proof[]> {
  const isOwn = await readOwnAddresses(run);
  const own = expectation.addresses.filter(isOwn);
  const note = notSeenFromHere(expectation.addresses, isOwn);
  const proofs = await inParallel(own.length > 0 ? own : ['127.0.0.1'], AT_ONCE, async (address) => {
    let seen: TlsSight;
    try {
      seen = await seeTls(address, port, 'libvirt');
    } catch (error) {
      // Gone meanwhile: what is desired is about to change.
      if (!(await readOwnAddresses(run))(address)) return [];
      throw error;
    }
    const { pin, protocol } = seen;
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
    const target = hostPort(address, port);
    const at = clock.now();
    return [{ kind: 'handshake', target, at, by: 'agent', servedPin: pin, detail: protocol }] as const;
  });
  return withNote(proofs.flat(), note);
}
