import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';

/** The newest CRL of an authority, as it is published and as hosts get it. */
export interface Crl {
  readonly authority: string;
  /** Milliseconds since 1970 or more, so that it exceeds all that was handed out before a backup was restored. */
  readonly number: number;
  readonly thisUpdate: Instant;
  readonly nextUpdate: Instant;
  /** Up to which change of the revocations it goes. */
  readonly changes: number;
  readonly entries: number;
  readonly hostEntries: number;
  /** The certificate of the manager's own on it that hosts are tried with; null where it has none. */
  readonly canary: SerialNumber | null;
  /** DER. */
  readonly whole: Uint8Array;
  /** DER, with no more entries than QEMU can bear; the same bytes where there are no more. */
  readonly forHosts: Uint8Array;
}

/** What a host was last seen to hold of an authority. */
export interface CrlAtHost {
  readonly host: HostId;
  readonly authority: string;
  readonly number: number;
  readonly nextUpdate: Instant;
  /** When it was brought. */
  readonly at: Instant;
  /** Why not all of its daemons have loaded it; null where they have. */
  readonly failure: string | null;
}

/** Where CRLs are kept. Each method is one durable unit of work. */
export interface CrlRepository {
  find(authority: string): Crl | null;
  /** Whether this store has all that a CRL of that number said: it signed it, or learnt from it. */
  knows(authority: string, number: number): boolean;
  /** The greatest number that is known of an authority; 0 before the first. */
  highest(authority: string): number;
  /**
   * Keeps a CRL in place of the one before, whose number is lower, and lets go of the entries, up to a sequence, whose
   * certificates had ended `endedBefore` it: they were on it once more (RFC 5280 §3.3).
   */
  keep(
    crl: Crl,
    gone: { readonly through: number; readonly endedBefore: Instant },
    audit: AuditDraft,
  ): Promise<void>;
  /** Of all hosts. */
  deliveries(): Promise<readonly CrlAtHost[]>;
  deliveriesTo(host: HostId): Promise<readonly CrlAtHost[]>;
  delivered(entries: readonly CrlAtHost[]): Promise<void>;
}
