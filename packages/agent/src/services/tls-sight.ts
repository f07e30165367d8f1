import { connect } from 'node:tls';
import { TrustError } from '@virt-trust/base/error.ts';
import { pinOfKey, type SpkiPin } from '@virt-trust/base/spki-pin.ts';

const HANDSHAKE_MS = 20_000;

/** What a TLS server showed: its certificate's key, which the handshake proves that it holds. */
export interface TlsSight {
  readonly pin: SpkiPin;
  readonly protocol: string;
}

/**
 * Makes a TLS handshake and tells whose key is served; throws `proof.no_handshake`. The chain is not judged: it was
 * verified before the switch, here it is the key that counts.
 */
export async function seeTls(
  host: string,
  port: number,
  what: string,
  timeoutMs = HANDSHAKE_MS,
): Promise<TlsSight> {
  const { promise, resolve, reject } = Promise.withResolvers<TlsSight>();
  const socket = connect({ host, port, rejectUnauthorized: false });
  const fail = (reason: string, cause?: unknown) =>
    reject(
      new TrustError(
        'proof.no_handshake',
        'failed',
        `cannot see ${what} serve TLS at ${host} port ${port}: ${reason}`,
        {
          hint: 'see whether the daemon listens there: ss -ltn, systemctl status on the host',
          ...(cause === undefined ? {} : { cause }),
        },
      ),
    );
  const timer = setTimeout(() => fail(`no handshake within ${timeoutMs / 1000} s`), timeoutMs);
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
    clearTimeout(timer);
    socket.destroy();
  }
}
