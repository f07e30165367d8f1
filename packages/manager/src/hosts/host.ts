import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { Gate } from '@virt-trust/contract/model/gate.ts';
import type { HostState } from '@virt-trust/contract/model/host.ts';
import type { DeclaredInterface, InterfaceWord, RefusedName } from '@virt-trust/contract/model/interface.ts';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { ObservedState } from '@virt-trust/contract/model/observed-state.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { SshTarget } from '@virt-trust/contract/model/ssh.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';

/** What was on the host before virt-trust changed anything: what the gates are decided from. */
export interface FoundFacts {
  /** Services for which a certificate, its key and a CA were found: a server's, or for disks over NBD a client's. */
  readonly identities: readonly Service[];
  /** Services for which a CA was found. */
  readonly authorities: readonly Service[];
  readonly tcpListening: boolean;
  readonly vncTls: boolean;
  readonly vms: number;
  readonly allowedDns: boolean;
  /** Which services were looked at; missing where it was written by a version that knew no storage. */
  readonly lookedAt?: readonly Service[];
}

/**
 * What a host may have certificates for: its interfaces with a role, and the names and addresses on them that are in
 * the administrator's word, or reported within what the settings allow.
 */
export interface Declaration {
  /** The management interface, as the administrator accepted it. */
  readonly interface: string | null;
  /** Of all its interfaces with a role, management first: no other host has any of these. */
  readonly names: SubjectAltNames;
  readonly interfaces: readonly DeclaredInterface[];
  readonly refused: readonly RefusedName[];
}

/** What administrators have said of a host; nothing that its agent reports changes it. */
export interface AdministratorWord {
  /** Names of the host itself: that it was added under, given then, or reported then and so accepted. */
  readonly dns: readonly string[];
  /** Addresses that were reported and accepted, by `host add` or `interface set`; they count while they are reported. */
  readonly accepted: readonly string[];
  /** Addresses that were taken from it, until it reports them no more; what is accepted or given later counts again. */
  readonly released?: readonly string[];
  /** Names and addresses of its management that its agent can't report: `host set-address`. */
  readonly outside: SubjectAltNames;
  readonly interfaces: Readonly<Record<string, InterfaceWord>>;
  /** Whether it was added as the manager's own machine, whose names no other host may have; missing where it was added before. */
  readonly onManager?: boolean;
}

/** A host as the manager remembers it. */
export interface Host {
  readonly id: HostId;
  readonly name: string;
  readonly cluster: string;
  readonly state: HostState;
  /** Why it failed; null where it did not. */
  readonly reason: string | null;
  readonly ssh: SshTarget;
  /** The accepted SSH host key, `algorithm base64`. */
  readonly sshHostKey: string;
  readonly channel: { readonly address: string; readonly port: number };
  readonly managerAddresses: readonly string[];
  readonly observeOnly: boolean;
  readonly agentPins: readonly SpkiPin[];
  readonly declared: Declaration;
  readonly word: AdministratorWord;
  readonly found: FoundFacts | null;
  readonly grantedGates: readonly Gate[];
  /** Of the last desired state that was computed. */
  readonly desiredNumber: number;
  /** All its certificates were revoked: it gets none until it is provisioned by name. */
  readonly revoked?: { readonly at: Instant; readonly reason: RevocationReason; readonly comment: string };
  /** Its TLS is switched off and what was found on it is back: by the last provisioning that was settled. */
  readonly tlsOff?: true;
  /** Raised per service to have new keys made. */
  readonly revisions: Readonly<Partial<Record<Service, number>>>;
  readonly inventory: Inventory | null;
  readonly observed: ObservedState | null;
}

/** Whom names and addresses belong to. */
export interface Claims {
  /** The name of the other host that has it; null where it is free, or the host's own. */
  holderOf(name: string): string | null;
}

/** Where hosts are kept. Each method is one durable unit of work. */
export interface HostRepository {
  list(): Promise<readonly Host[]>;
  /** Of all hosts, without reading them. */
  ids(): Promise<readonly HostId[]>;
  find(name: string): Promise<Host | null>;
  get(id: HostId): Promise<Host | null>;
  /** The address of a host that is known by that name without an agent; null where none is. */
  unmanagedAddress(name: string): Promise<string | null>;
  /**
   * Writes the host whole with its audit entries, and claims its declared names and addresses; throws
   * `host.name_conflict` where another host has one of them.
   */
  save(host: Host, audit?: readonly AuditDraft[]): Promise<void>;
  /**
   * Changes a host as it stands at that moment, in one transaction, so that writers who change different fields never
   * lose each other's; a change that returns the host given writes nothing. Throws `host.unknown` where it was
   * removed meanwhile, and as `save` does. A change of its name carries along what is kept under it; throws `host.busy`
   * while a job works on it. What `audit` says of the change goes into the same transaction. `claims` are those of all
   * hosts, as they are in it.
   */
  update(
    id: HostId,
    change: (host: Host, claims: Claims) => Host,
    audit?: (before: Host, after: Host) => readonly AuditDraft[],
  ): Promise<Host>;
  /** Which of these names and addresses belong to hosts other than this one, with the other's name. */
  holders(names: readonly string[], except: HostId): Promise<ReadonlyMap<string, string>>;
  remove(id: HostId): Promise<void>;
  /** Calls the listener after each write of a host, with its id; what it says now is to be read then. */
  onChange(listener: (id: HostId) => void): void;
}
