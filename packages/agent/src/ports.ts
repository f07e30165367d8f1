import type { Clock } from '@virt-trust/base/clock.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { CrlDelivery, InstalledCrl, RevokedParty } from '@virt-trust/contract/model/crl.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { InstallOrder } from '@virt-trust/contract/model/enrolment.ts';
import type { HostNetwork, Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import type {
  CertificateRequest,
  IssuedCertificate,
  ObservedState,
  ProofVerdict,
} from '@virt-trust/contract/model/observed-state.ts';
import type { Firewall } from './firewall/firewall.ts';
import type { AgentPaths } from './paths.ts';

/** What the agent's parts work with. */
export interface AgentContext {
  readonly paths: AgentPaths;
  readonly mode: InstallOrder['mode'];
  readonly run: RunHostCommand;
  readonly firewall: Firewall;
  readonly clock: Clock;
  readonly randomness: Randomness;
  readonly log: Log;
  /** Adds to the host's events; a failure to do so is logged and stops nothing. */
  readonly record: (kind: string, subject: string, message: string) => Promise<void>;
  readonly inventory: () => Promise<Inventory>;
}

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
  /** Leaves what is under way where it stands; the next start goes on with it. */
  stop(): Promise<void>;
}

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

/** Migrations from this host. */
export interface Migrations {
  create(order: MigrationOrder): Promise<{ csr: string }>;
  start(id: string, certificate: string): Promise<MigrationStatus>;
  /** Waits up to `waitMs` for a change of phase or progress. */
  get(id: string, waitMs: number, signal: AbortSignal): Promise<MigrationStatus>;
  cancel(id: string): Promise<MigrationStatus>;
  close(): Promise<void>;
}

/** The host's interfaces, addresses and name, as they are once they have come to rest. */
export interface NetworkWatch {
  /** Resolves after the first look. */
  start(): Promise<void>;
  /** Null before the first look. */
  report(): HostNetwork | null;
  stop(): Promise<void>;
}

/** Makes the parts that change the host, and the one that watches its network. */
export type EngineFactory = (
  context: AgentContext,
) => Promise<{ apply: ApplyEngine; crls: Crls; migrations: Migrations; network: NetworkWatch }>;
