import type { ProbeReason } from './probe-report.ts';

/** What an end of a handshake tells: a TLS alert of the server, or that there is no TLS at all. */
type TlsEnd =
  | { readonly kind: 'client-refused'; readonly reason: ProbeReason | undefined }
  | { readonly kind: 'not-tls' }
  | { readonly kind: 'other' };

/** RFC 8446 §6.2: alerts about the client's certificate, by OpenSSL's names for them. */
const CERTIFICATE_ALERTS: readonly (readonly [RegExp, ProbeReason | undefined])[] = [
  [/CERTIFICATE_REQUIRED/, 'no_client_certificate'],
  [/CERTIFICATE_EXPIRED/, 'client_date'],
  [/CERTIFICATE_REVOKED/, 'client_revoked'],
  [/UNKNOWN_CA/, 'client_chain'],
  [/ALERT_(?:BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|UNSUPPORTED_CERTIFICATE|ACCESS_DENIED)/, undefined],
];

/** Reads the error by which Node's TLS ended. */
export function describeTlsAlert(error: unknown): TlsEnd {
  const code = String((error as { readonly code?: unknown } | undefined)?.code ?? '');
  for (const [pattern, reason] of CERTIFICATE_ALERTS)
    if (code.startsWith('ERR_SSL_') && pattern.test(code)) return { kind: 'client-refused', reason };
  if (/ALERT/.test(code)) return { kind: 'other' };
  // Whoever has no TLS closes on a ClientHello, or answers with something else.
  if (!code.startsWith('ERR_SSL_')) return { kind: 'not-tls' };
  return /WRONG_VERSION_NUMBER|PACKET_LENGTH|HTTP_REQUEST|UNKNOWN_PROTOCOL|RECORD/.test(code)
    ? { kind: 'not-tls' }
    : { kind: 'other' };
}
