import type { Instant } from '@virt-trust/base/instant.ts';
import type { CrlReason } from '@virt-trust/pki/crl-reason.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';

/** What is known of a certificate; `unknown` where the authority never recorded one of that serial number. */
export type CertificateStatus =
  | { readonly kind: 'good' }
  | { readonly kind: 'revoked'; readonly at: Instant; readonly reason: CrlReason }
  | { readonly kind: 'unknown' };

/** The CRL of an authority as it is published. */
export interface PublishedCrl {
  readonly der: Uint8Array;
  readonly thisUpdate: Instant;
  readonly nextUpdate: Instant;
}

/** Where the responder and the publication of CRLs learn what is so. */
export interface StatusSource {
  /**
   * SECURITY: a certificate that is only `recorded` counts as issued, since a crash can come between the answer and the
   * mark.
   */
  statusOf(authority: string, serialNumber: SerialNumber): CertificateStatus;
  /** Whether it is not known of any certificate that it is good: a restored manager has not asked its hosts yet. */
  isHeld(): boolean;
  /** The newest CRL, complete; null while there is none. */
  crlOf(authority: string): PublishedCrl | null;
  /**
   * Calls the listener with the authorities whose certificates changed their status or whose CRL is a new one, after the
   * change is durable and before whoever asked for it is answered.
   */
  onChange(listener: (authorities: readonly string[]) => void): void;
}
