import type { Instant } from '@virt-trust/base/instant.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { Revocation } from '@virt-trust/contract/model/certificate.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';

/** For whom a certificate is. */
export type Holder =
  | { readonly kind: 'host'; readonly host: string; readonly service: Service }
  /** Someone with a key for one task: a migration, a proof; with the host that has the key, null where the manager itself has it. */
  | { readonly kind: 'client'; readonly heldBy: string | null };

/** What is written down before anything is signed: who, and the very bytes that will be signed. */
export interface CertificateIntent {
  readonly serialNumber: SerialNumber;
  readonly authority: string;
  readonly profile: string;
  readonly holder: Holder;
  readonly pin: SpkiPin;
  readonly tbs: Uint8Array;
  /** When it was made; its notBefore is earlier. */
  readonly issuedAt: Instant;
  readonly notAfter: Instant;
}

/** A certificate as it is kept; everything else about it is in `tbs`. */
export interface CertificateRecord extends CertificateIntent {
  /** Its place in the order of recording. */
  readonly sequence: number;
  readonly state: // SECURITY: whoever revokes or counts takes this for issued: a crash can come between the answer and the mark.
    | { readonly kind: 'recorded' }
    /** The signature over `tbs`. */
    | { readonly kind: 'issued'; readonly signature: Uint8Array };
  readonly revocation: Revocation | null;
}

/** One thing to be made durable; what will be signed comes with its audit entry. */
export type CertificateChange =
  | { readonly kind: 'record'; readonly intent: CertificateIntent; readonly audit: AuditDraft }
  | { readonly kind: 'issued'; readonly serialNumber: SerialNumber; readonly signature: Uint8Array }
  /** Issued by us in a life of the store that a restore took back; one that is known already is left as it is. */
  | {
      readonly kind: 'adopt';
      readonly intent: CertificateIntent;
      readonly signature: Uint8Array;
      readonly audit: AuditDraft;
    };

export type ChangeOutcome =
  | { readonly kind: 'done' }
  /** The key was certified before for somebody else; nothing of the change was kept. */
  | { readonly kind: 'key-reused'; readonly holder: Holder }
  /** The host's certificates were all revoked, and nobody asked for new ones by its name since; nothing was kept. */
  | { readonly kind: 'host-revoked'; readonly host: string }
  /** A certificate on this key was revoked because somebody else may have the key. */
  | { readonly kind: 'key-compromised' };

/** Where certificates are kept. */
export interface CertificateRepository {
  /**
   * Makes all changes durable in one unit of work, all or none; a `record` whose key somebody
   * else has, or whose host is revoked, is left out and said so in its outcome.
   */
  commit(changes: readonly CertificateChange[]): Promise<readonly ChangeOutcome[]>;
  find(serialNumber: SerialNumber): Promise<CertificateRecord | null>;
  /** Newest first, with a sequence below `before`, of one host where one is given. */
  list(filter: {
    readonly before: number | null;
    readonly host: string | null;
    readonly limit: number;
  }): Promise<readonly CertificateRecord[]>;
}
