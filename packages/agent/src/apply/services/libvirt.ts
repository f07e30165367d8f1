import { isIP } from 'node:net';
import { connect } from 'node:tls';
import type { Clock } from '@virt-trust/base/clock.ts';
import { TrustError } from '@virt-trust/base/error.ts';
import { pinMatches, pinOfKey } from '@virt-trust/base/spki-pin.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import { LIBVIRT_TLS_PORT } from '@virt-trust/libvirt/layout.ts';
import type { RpcDaemon } from '@virt-trust/libvirt/libvirtd-settings.ts';
import type { RunHostCommand } from '../../host-command.ts';
import type { Expectation } from '../host-effects.ts';

const HANDSHAKE_MS = 20_000;

/** Has the daemon read its certificates again; established connections live on. */
export async function reloadLibvirt(run: RunHostCommand, daemon: RpcDaemon): Promise<void> {
  await run('virt-admin', ['-c', `${daemon}:///system`, 'server-update-tls', daemon], { timeoutMs: 60_000 });
}

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
    const { pin, protocol } = await handshake(address, port);
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

async function handshake(host: string, port: number) {
  const { promise, resolve, reject } = Promise.withResolvers<{
    pin: ReturnType<typeof pinOfKey>;
    protocol: string;
  }>();
  // The chain was verified before the switch; here it is the key that counts, which the handshake proves.
  const socket = connect({ host, port, rejectUnauthorized: false });
  const fail = (reason: string, cause?: unknown) =>
    reject(
      new TrustError(
        'proof.no_handshake',
        'failed',
        `cannot see libvirt serve TLS at ${host} port ${port}: ${reason}`,
        {
          hint: 'see whether the daemon listens there: ss -ltn, systemctl status on the host',
          ...(cause === undefined ? {} : { cause }),
        },
      ),
    );
  socket.setTimeout(HANDSHAKE_MS, () => fail(`no handshake within ${HANDSHAKE_MS / 1000} s`));
  socket.once('error', (error) => fail(error.message, error));
  socket.once('close', () => fail('it closed the connection'));
  socket.once('secureConnect', () => {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) fail('it shows no certificate');
    else resolve({ pin: pinOfKey(certificate.publicKey), protocol: socket.getProtocol() ?? '' });
  });
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}
