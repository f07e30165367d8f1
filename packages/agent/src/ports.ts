import type { Clock } from '@virt-trust/base/clock.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { ChannelIdentity } from '@virt-trust/channel/identity.ts';
import type { PinSet } from '@virt-trust/channel/pins.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import type { CrlDelivery, InstalledCrl, RevokedParty } from '@virt-trust/contract/model/crl.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { InstallOrder } from '@virt-trust/contract/model/enrolment.ts';
import type { Grant, GrantedOperation, GrantState } from '@virt-trust/contract/model/grant.ts';
import type { HostVm } from '@virt-trust/contract/model/host-vm.ts';
import type { HostNetwork, Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { MigrationOrder, MigrationStatus, PreparedVm } from '@virt-trust/contract/model/migration.ts';
import type {
  CertificateRequest,
  IssuedCertificate,
  ObservedState,
  ProofVerdict,
} from '@virt-trust/contract/model/observed-state.ts';
import type {
  HandshakeServer,
  PreflightOrder,
  PreflightReport,
} from '@virt-trust/contract/model/preflight.ts';
import type { Firewall } from './firewall/firewall.ts';
import type { AgentPaths } from './paths.ts';

/** The keys of the channel, as of now. */
export interface AgentKeys {
  /** The key in use, with which it is known to managers and to other agents. */
  readonly current: ChannelIdentity<'agent'>;
  /** Those of all its keys, which nobody else may have. */
  readonly own: PinSet<'agent'>;
  /** Whom it obeys. */
  readonly managers: PinSet<'manager'>;
}

/** What the agent's parts work with. */
export interface AgentContext {
  readonly paths: AgentPaths;
  readonly mode: InstallOrder['mode'];
  readonly keys: () => AgentKeys;
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
  create(order: MigrationOrder): Promise<{ csr: string | null; vm: PreparedVm }>;
  start(id: string, certificate: string | null): Promise<MigrationStatus>;
  /** Waits up to `waitMs` for a change of phase or progress. */
  get(id: string, waitMs: number, signal: AbortSignal): Promise<MigrationStatus>;
  cancel(id: string): Promise<MigrationStatus>;
  /** The VMs of this host, or of the libvirt at an address. */
  list(address: string | undefined): Promise<{ vms: HostVm[] }>;
  /** Where the VM of a grant stands on this host, as libvirt says it, and how its migration from here does. */
  vmState(
    grant: Grant,
  ): Promise<{ state: string | null; reason: string; phase: MigrationStatus['phase'] | null }>;
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

/** Who may come in through the peer door now, and who hears of those who may not. */
export interface PeerGuests {
  pins(): PinSet<'agent'>;
  admitsAddress(remoteAddress: string): boolean;
  /** How many grants name the key. */
  grantsOf(pin: SpkiPin): number;
  /** Told within bounds, however often it is called. */
  refused(subject: string, message: string): void;
}

/** The peer door, as what opens it sees it. */
export interface PeerDoorControl {
  /** Resolves with the port. */
  open(guests: PeerGuests): Promise<number>;
  /** Takes up a changed key of this host; cuts off those who are guests no more. */
  refresh(): void;
  close(): Promise<void>;
}

/** An agent that asks: by the key that its handshake proved, and from where it came. */
export interface AskingPeer {
  readonly pin: SpkiPin;
  readonly address: string;
}

/** What it asks. */
export interface AskedOperation {
  readonly granted: GrantedOperation;
  /** Whether it belongs to a migration that has begun: such may be asked after the grant's `notAfter` too. */
  readonly goesOn: boolean;
}

/** Permissions for other agents, given by managers; the peer door is open as long as there is one. */
export interface Grants {
  /** Opens what was granted before the agent's end. */
  start(door: PeerDoorControl): Promise<void>;
  /** Throws `grant.not_yours` for a grant of another manager, and `grant.*` for one that must not be given. */
  put(grant: Grant, manager: SpkiPin): Promise<GrantState>;
  /** One that is not there is fine. */
  remove(id: string, manager: SpkiPin): Promise<void>;
  /** Those of one manager, or all. */
  list(manager?: SpkiPin): GrantState[];
  /** The grant by which a peer asks for an operation; throws `grant.*` where there is none for it. */
  admit(id: string, peer: AskingPeer, asked: AskedOperation): Grant;
  /** The grant of that id, whoever asks; undefined where there is none. */
  find(id: string): Grant | undefined;
  /** The migration of a grant, if there is one, has begun: how it does may be asked after `notAfter` too. */
  begin(id: string): Promise<void>;
  /** The migration of a grant is over: nothing more is asked under it, and it goes once the signal is aborted. */
  end(id: string, answered: AbortSignal): void;
  /** Takes up changed managers and keys: grants of a manager that was removed go at once. */
  refresh(): Promise<void>;
  close(): Promise<void>;
}

/** This host as the destination of migrations, towards the source's agent. */
export interface Arrivals {
  /** Finds again what runs on from before the agent's end. */
  start(): Promise<void>;
  /** Compares the VM's XML with the grant's; in mode `pinned` starts the relay. */
  create(
    grant: Grant,
    vm: { readonly xml: string; readonly persistentXml: string | null },
  ): Promise<{ relayPort: number | null }>;
  end(grant: Grant, outcome: string): Promise<void>;
  /** Whether streams of a grant are taken still. */
  isRunning(id: string): Promise<boolean>;
  /** Ends all that a grant had opened, sockets included. */
  release(id: string): Promise<void>;
  close(): Promise<void>;
}

/** What an agent finds out before a migration. */
export interface Preflights {
  check(order: PreflightOrder, signal: AbortSignal): Promise<PreflightReport>;
  /** Serves one handshake of the peer's with QEMU's own TLS code. */
  serve(grant: Grant, address: string): Promise<HandshakeServer>;
  close(): Promise<void>;
}

/** What this host can do in migrations, looked at anew whenever something of it changes. */
export interface CapabilityWatch {
  start(): Promise<void>;
  /** Null before the first look. */
  report(): HostCapabilities | null;
  stop(): Promise<void>;
}

export interface Engines {
  readonly apply: ApplyEngine;
  readonly crls: Crls;
  readonly migrations: Migrations;
  readonly network: NetworkWatch;
  readonly grants: Grants;
  readonly arrivals: Arrivals;
  readonly preflights: Preflights;
  readonly capabilities: CapabilityWatch;
}

/** Makes the parts that change the host, and those that watch it. */
export type EngineFactory = (context: AgentContext) => Promise<Engines>;
