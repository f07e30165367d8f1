import type { Instant } from '@virt-trust/base/instant.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { Proof } from '@virt-trust/contract/model/observed-state.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { RpcDaemon } from '@virt-trust/libvirt/libvirtd-settings.ts';
import type { Sockets } from '../sets/apply-state.ts';
import type { ConsoleListening } from '../sets/console-settings.ts';
import type { Listening } from '../sets/daemon-settings.ts';
import type { RunningMigration } from './running-migrations.ts';
import type { Sighting, Where } from './sighting.ts';
import type { StaleDevice } from './stale-devices.ts';

/** A running VM as far as its displays matter here. */
export interface VmFacts {
  readonly uuid: string;
  readonly name: string;
  readonly vnc: readonly {
    readonly listen: string;
    readonly port: number;
    readonly tlsDirectory: string | null;
  }[];
  readonly spice: readonly {
    readonly listen: string;
    readonly port: number | null;
    readonly tlsPort: number | null;
    readonly tlsDirectory: string | null;
  }[];
}

/** What an application needs to know of the host. */
export interface HostFacts {
  readonly daemon: RpcDaemon;
  readonly listening: Listening;
  /** Whether the kernel has IPv6. */
  readonly ipv6: boolean;
  readonly libvirtVersion: string;
  readonly qemuVersion: string;
  readonly qemuUid: number;
  readonly qemuGid: number;
  readonly sockets: Sockets;
  /** Those that run here; one that arrives by migration does only once it has. */
  readonly vms: readonly VmFacts[];
  readonly staleDevices: readonly StaleDevice[];
}

/** How the daemon shall be: its sockets, and whether it must read its configuration anew. */
export interface DaemonTarget {
  readonly sockets: Sockets;
  readonly restart: boolean;
}

/** What must be seen served. */
export interface Expectation {
  readonly pin: SpkiPin;
  readonly identity: 'ours' | 'found';
  /** The names that the certificate has. */
  readonly names: SubjectAltNames;
  /** Where the host's endpoints of the service are. */
  readonly addresses: readonly string[];
  /** CA certificates that the client of the proof trusts. */
  readonly bundle: string;
  readonly at: Instant;
  readonly facts: HostFacts;
}

/** What an application does to a host beside writing files; replaced in tests of what files are left. */
export interface HostEffects {
  facts(): Promise<HostFacts>;
  /** Lets confined QEMU processes read the generations (AppArmor, SELinux). */
  permitReading(): Promise<void>;
  forbidReading(): Promise<void>;
  /** The live migrations that libvirt works on here, incoming and outgoing, whoever began them. */
  migrations(): Promise<readonly RunningMigration[]>;
  /** Resolves when that may have changed, or after a while, or when `signal` is aborted. */
  migrationsChange(signal: AbortSignal): Promise<void>;
  /** Brings sockets and daemon as wanted and waits until the daemon answers; running VMs are not touched. */
  bringDaemon(target: DaemonTarget): Promise<void>;
  /** Lets clients in; to displays only where they leave loopback by our doing. */
  openPorts(services: readonly Service[], consoles: ConsoleListening): Promise<void>;
  closePorts(): Promise<void>;
  /** Ends what a reload that was killed left of itself: a daemon that lets no client in. True where it did. */
  letClientsIn(): Promise<boolean>;
  /** Has running processes read the service's files again. */
  reload(service: Service, facts: HostFacts): Promise<void>;
  /** The VMs that run now. */
  runningVms(): Promise<readonly VmFacts[]>;
  /** Looks what is served wherever the services are served now; a look changes nothing. */
  look(where: Where, facts: HostFacts): Promise<Sighting[]>;
  /** SHA-256 of files as the QEMU user reads them; one that it can't read is missing. */
  digestsForQemu(files: readonly string[], facts: HostFacts): Promise<Map<string, string>>;
  /** Sees the service serve what it must; throws where it does not. */
  prove(service: Service, expectation: Expectation): Promise<Proof[]>;
}
