import type { CrlDelivery, InstalledCrl, RevokedParty } from '@virt-trust/contract/model/crl.ts';

/** The CRLs of this host, and sessions of those whom they revoke. */
export interface Crls {
  /** Begins to finish what a crash interrupted; does not wait for its end. */
  start(): void;
  put(
    crls: readonly CrlDelivery[],
    revoked: readonly RevokedParty[],
  ): Promise<{ crls: InstalledCrl[]; disconnected: string[] }>;
  /** The CRLs themselves, as they were verified. */
  held(): Promise<CrlDelivery[]>;
  stop(): Promise<void>;
}
