import type { Clock } from '@virt-trust/base/clock.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import type { ManagerPins } from '@virt-trust/contract/model/agent-identity.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type {
  DesiredCredential,
  DesiredState,
  SubjectAltNames,
} from '@virt-trust/contract/model/desired-state.ts';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { KeyAlgorithm, Purpose, Service } from '@virt-trust/contract/model/service.ts';
import type { HostChannels } from './channels.ts';
import type { AdministratorWord, Host, HostRepository } from './host.ts';
import type { Observing } from './observing.ts';
import type { OutsideLook } from './outside-look.ts';
import type { TlsSwitch } from './security.ts';

/** The settings that bear on hosts, effective for one host. */
export interface HostSettings {
  readonly organization: string;
  readonly keyAlgorithm: KeyAlgorithm;
  readonly migrationModes: readonly string[];
  readonly tls: DesiredState['settings']['tls'];
  readonly migrationWaitSeconds: number;
  readonly probeSeconds: number;
  readonly allowedSkewSeconds: number;
  readonly managerAddresses: readonly string[];
  readonly clientCertificateMinutes: number;
  readonly consoles: DesiredState['settings']['consoles'];
}

/** A client key and certificate of the manager's own, held in memory and valid for minutes. */
export interface OwnClient {
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** Where certificates come from. */
export interface CertificateSource {
  /** An authority's certificates, issuing CA first, in PEM. */
  bundle(purpose: Purpose): Promise<string>;
  /** Throws where the policy refuses the request; the refusal is audited. */
  issueForHost(request: {
    readonly host: Host;
    readonly service: Service;
    readonly csrPem: string;
    readonly actor: string;
  }): Promise<{ readonly serialNumber: string; readonly certificatePem: string }>;
  /** A libvirt client certificate for one migration. */
  issueMigrationClient(request: {
    readonly host: Host;
    readonly commonName: string;
    readonly csrPem: string;
    readonly minutes: number;
    readonly actor: string;
  }): Promise<{ readonly certificatePem: string }>;
  ownClient(): Promise<OwnClient>;
  /** What an issued certificate is good for; null where there is none of that serial number. */
  namesOf(serialNumber: string): Promise<SubjectAltNames | null>;
}

/** A host as it is added: what an administrator says of it, and what it reports. */
export interface AddedHost {
  readonly id: HostId;
  readonly hostName: string;
  readonly cluster: string;
  /** The address that the administrator gave for SSH, where it is one. */
  readonly sshHost: string;
  readonly channel: Host['channel'];
  readonly interface: string | undefined;
  readonly names: readonly string[];
  readonly inventory: Inventory;
  /** What was said of the host before, where it is added again. */
  readonly known: AdministratorWord | undefined;
}

interface AuditPort {
  append(entry: {
    readonly actor: string;
    readonly action: string;
    readonly subject: string;
    readonly outcome: 'intent' | 'done' | 'refused' | 'failed';
    readonly detail: string;
  }): Promise<void>;
}

/** What the manager is to its agents. */
export interface ManagerIdentities {
  /** The pins that agents are told to obey, numbered anew at each call that changes them. */
  managerPins(): Promise<ManagerPins>;
}

/** What the work on hosts needs of revocation. */
export interface HostRevocations {
  /** The newest CRL of a purpose's authority as hosts get it, in PEM. */
  crlForHosts(purpose: Purpose): Promise<string>;
  /** When and why a certificate was revoked; null where it was not. */
  revocationOf(serialNumber: string): { readonly at: Instant; readonly reason: RevocationReason } | null;
  /** Whether not enough hosts were asked after a restore what was revoked since the backup. */
  isHeld(): boolean;
  /** Calls the listener once that is over. */
  onResume(listener: () => void): void;
  /** Brings a host the newest CRLs; throws `crl.not_delivered`. */
  deliver(host: Host, signal: AbortSignal): Promise<void>;
  /** Lets a revoked host have certificates again. */
  lift(host: string): Promise<void>;
  /** Revokes all certificates of a host that goes, and tells the others; answers how many. */
  retire(host: Host, asked: RevocationAsked, signal: AbortSignal): Promise<number>;
  /** Whether a certificate counts that has names that are its service's no more, whatever the host says that it serves. */
  hasEstranged(host: Host): Promise<boolean>;
  /** Revokes certificates with names that are the host's no more, but those of what was planned; answers how many. */
  revokeEstranged(
    host: Host,
    planned: readonly Pick<DesiredCredential, 'service' | 'names'>[],
    asked: Pick<RevocationAsked, 'actor' | 'origin'>,
    signal: AbortSignal,
  ): Promise<number>;
}

interface RevocationAsked {
  readonly actor: string;
  /** The same each time that it is tried again: the id of a job. */
  readonly origin: string;
  readonly comment: string;
}

/** What the work on hosts needs of the rest of the manager. */
export interface HostsContext {
  readonly clock: Clock;
  readonly log: Log;
  readonly repository: HostRepository;
  readonly channels: HostChannels;
  readonly observing: Observing;
  readonly certificates: CertificateSource;
  readonly revocations: HostRevocations;
  readonly audit: AuditPort;
  readonly identities: ManagerIdentities;
  settingsOf(host: { readonly name: string; readonly cluster: string }): Promise<HostSettings>;
  /** Takes back what is set for a host alone, which is about to be forgotten; returns the settings' names. */
  forgetSettings(host: string, actor: string): Promise<readonly string[]>;
  /** Whether the host shall have TLS, and which scope says so. */
  tlsOf(host: { readonly name: string; readonly cluster: string }): Promise<TlsSwitch>;
  /** The manager's own handshake with a host's libvirt, now; null where nothing is to be served. */
  lookOutside(id: HostId): Promise<OutsideLook | null>;
  /** What a host that is added may have certificates for, and what an administrator says by adding it. */
  declareAdded(added: AddedHost): Promise<Pick<Host, 'word' | 'declared'>>;
  /** Names and addresses of the manager's own machine, none for a host that runs on it. */
  managerNamesFor(host: Pick<Host, 'word'>): SubjectAltNames;
  /** Whether the authorities may certify a name or address at all. */
  mayCertify(name: string): boolean;
  /** Where hosts may announce themselves; null while nobody listens there. */
  announcePort(): number | null;
  /** Path of the executable that is deployed. */
  readonly programPath: string;
  /** Of the manager's store; grows when it is restored from a backup. */
  readonly epoch: number;
}
