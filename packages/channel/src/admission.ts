import type { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { pinOfSpki, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { PinSet } from './pins.ts';

/** Why a peer that finished the TLS handshake is not let in. */
export type AdmissionRefusal =
  | { readonly kind: 'protocol'; readonly protocol: string }
  | { readonly kind: 'alpn'; readonly alpn: string | undefined }
  | { readonly kind: 'resumed' }
  | { readonly kind: 'no-certificate' }
  | { readonly kind: 'unreadable-certificate' }
  | { readonly kind: 'untrusted-pin'; readonly pin: SpkiPin };

/** The outcome of the check that stands between a TLS handshake and the first application byte. */
export type Admission =
  | { readonly kind: 'admitted'; readonly pin: SpkiPin }
  | { readonly kind: 'refused'; readonly refusal: AdmissionRefusal };

/**
 * Decides by the peer's key alone whether a finished TLS 1.3 handshake (RFC 8446 §4.4) becomes a channel. The
 * certificate's name, issuer and dates are not looked at.
 * SECURITY: synchronous, so that it runs before any application byte is read or written.
 */
export function admitPeer(socket: TLSSocket, alpn: string, trusted: PinSet): Admission {
  const protocol = socket.getProtocol();
  if (protocol !== 'TLSv1.3') return refused({ kind: 'protocol', protocol: protocol ?? 'none' });
  // SECURITY: RFC 7301 §3.2 lets a client that sends no ALPN through; here it is refused.
  if (socket.alpnProtocol !== alpn) return refused({ kind: 'alpn', alpn: socket.alpnProtocol || undefined });
  // SECURITY: a resumed session proves no possession of the certificate's key (RFC 8446 §2.2).
  if (socket.isSessionReused()) return refused({ kind: 'resumed' });
  const certificate = socket.getPeerX509Certificate();
  if (certificate === undefined) return refused({ kind: 'no-certificate' });
  const pin = pinOfCertificate(certificate);
  if (pin === undefined) return refused({ kind: 'unreadable-certificate' });
  if (!trusted.isTrusted(pin)) return refused({ kind: 'untrusted-pin', pin });
  return { kind: 'admitted', pin };
}

function refused(refusal: AdmissionRefusal): Admission {
  return { kind: 'refused', refusal };
}

/**
 * The pin of the key that the TLS library verified CertificateVerify with, if its SubjectPublicKeyInfo stands in
 * the certificate in that very encoding.
 */
function pinOfCertificate(certificate: X509Certificate): SpkiPin | undefined {
  try {
    // SECURITY: asked of the TLS library and not parsed here: two parsers that disagree on where the key lies
    // would let somebody sign with one key and be known by another.
    const spki = certificate.publicKey.export({ type: 'spki', format: 'der' });
    return certificate.raw.includes(spki) ? pinOfSpki(spki) : undefined;
  } catch {
    return undefined;
  }
}
