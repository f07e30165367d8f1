import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type {
  CertificateRequest,
  IssuedCertificate,
  ObservedState,
  ProofVerdict,
} from '@virt-trust/contract/model/observed-state.ts';

/** Makes the host what the manager wants. */
export interface ApplyEngine {
  /** Begins to complete or take back what a crash interrupted; does not wait for its end. */
  start(): Promise<void>;
  observedState(): Promise<ObservedState>;
  putDesiredState(desired: DesiredState): Promise<ObservedState>;
  /** The last that was put; null before the first. */
  desiredState(): Promise<DesiredState | null>;
  certificateRequests(): Promise<CertificateRequest[]>;
  putCertificates(certificates: readonly IssuedCertificate[]): Promise<ObservedState>;
  postProofs(proofs: readonly ProofVerdict[]): Promise<ObservedState>;
  /** Gives the host back what was found on it; the service itself stays for the caller to remove. */
  remove(): Promise<{ restored: string[]; left: string[] }>;
  /** What waits for running migrations, in words; nothing where nothing does. */
  reloadWaits(): string[];
  /**
   * To be asked before a migration begins here, from here or to here: waits while libvirt's daemon is being restarted;
   * throws `migration.restart_due` where its restart waits for other migrations, since it goes first.
   */
  beforeMigration(): Promise<void>;
  /** Leaves what is under way where it stands; the next start goes on with it. */
  stop(): Promise<void>;
}
