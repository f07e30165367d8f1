import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';

/** What a CRL of ours says that a host holds and this store did not sign. */
export interface FoundCrl {
  readonly authority: string;
  readonly number: number;
  readonly entries: readonly {
    readonly serialNumber: SerialNumber;
    readonly at: Instant;
    readonly reason: RevocationReason;
  }[];
  /** Until when a certificate that is not known may be valid. */
  readonly notAfter: Instant;
  readonly host: string;
}

/** Where it is kept what a restored store has still to learn. Each method is one durable unit of work. */
export interface CrlRecoveryRepository {
  /** Whether CRLs are held back: the store was restored, and its hosts were not asked yet. */
  isHeld(): boolean;
  release(audit: AuditDraft): Promise<void>;
  /** The hosts that were asked since the store was made or restored. */
  heard(): readonly HostId[];
  noteHeard(host: HostId): Promise<void>;
  /**
   * Records every revocation that is not known, with audit entries, and notes whose sessions are to be cut; a host all of
   * whose certificates are revoked by it gets none any more. False where all of it was known.
   */
  adopt(found: FoundCrl): Promise<boolean>;
}
