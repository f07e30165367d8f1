import type { Purpose } from '@virt-trust/contract/model/service.ts';
import type { Certificate } from '@virt-trust/pki/certificate.ts';
import type { CertificateTemplate, PreparedCertificate } from '@virt-trust/pki/certificate-issue.ts';
import type { CrlFields, EncodedCrlEntries } from '@virt-trust/pki/crl-issue.ts';
import type { StatusLocations } from '@virt-trust/pki/distribution-point.ts';
import type { LeafProfile } from '@virt-trust/pki/profiles.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';

/** A CA as operators see it, bound to a purpose and to the provider that signs for it. */
export interface Authority {
  readonly name: string;
  readonly purpose: Purpose;
  readonly provider: AuthorityProvider['kind'];
  /** O of the authority, and so of all its certificates; stays when the setting changes. */
  readonly organization: string;
  readonly root: Certificate;
  /** The certificate that end certificates are issued under. */
  readonly issuing: Certificate;
  /** What certificates of a profile have in common, with the places where their status is published if it is. */
  template(profile: LeafProfile, locations?: StatusLocations): CertificateTemplate;
  /** Signs what was linted and, by then, recorded; returns the signature over its bytes. */
  sign(prepared: PreparedCertificate): Promise<Uint8Array>;
  /** Signs a CRL with the issuing CA's key; returns its DER. */
  signCrl(fields: CrlFields & { readonly entries: EncodedCrlEntries }): Promise<Uint8Array>;
}

/** What is kept of an authority; the private keys are sealed by the store. */
export interface AuthorityRecord {
  readonly name: string;
  readonly purpose: Purpose;
  readonly provider: AuthorityProvider['kind'];
  /** DER. */
  readonly rootCertificate: Uint8Array;
  readonly issuingCertificate: Uint8Array;
  /** PKCS#8 DER. */
  readonly issuingKey: Uint8Array;
}

/** An authority that was just made: only then the root's key is at hand. */
export interface NewAuthorityRecord extends AuthorityRecord {
  readonly rootKey: Uint8Array;
}

/**
 * A kind of CA. `internal` signs in this process with keys that the store keeps sealed, decides every field itself and
 * takes whatever was prepared as it is; it answers at once and is never away.
 */
export interface AuthorityProvider {
  readonly kind: 'internal';
  /** Takes the authority into service; throws where key and certificate do not fit. */
  open(record: AuthorityRecord): Authority;
}

/** Where authorities are kept. */
export interface AuthorityRepository {
  /** All, without their roots' keys. */
  list(): Promise<readonly AuthorityRecord[]>;
  /** Writes all of them with their audit entries in one unit of work; seals the keys. */
  add(records: readonly NewAuthorityRecord[], audit: readonly AuditDraft[]): Promise<void>;
}
