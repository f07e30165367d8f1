import { constants } from 'node:crypto';
import type { SecureContextOptions } from 'node:tls';
import type { ChannelIdentity } from './identity.ts';

/**
 * The TLS parameters that both ends of a channel share: TLS 1.3 alone (RFC 8446), the hybrid post-quantum group
 * first, our own self-signed certificate. Set here in full, so that no environment variable can loosen them.
 */
export function channelTlsOptions(identity: ChannelIdentity): SecureContextOptions {
  return {
    minVersion: 'TLSv1.3',
    maxVersion: 'TLSv1.3',
    // The question mark lets a TLS library that lacks the group start without it.
    ecdhCurve: '?X25519MLKEM768:X25519:P-256:P-384',
    // SECURITY: no stateless tickets (RFC 8446 §4.6.1); with no session store either, each handshake is a full one.
    secureOptions: constants.SSL_OP_NO_TICKET,
    cert: identity.certificatePem,
    key: identity.privateKeyPem,
  };
}
