import type {
  DesiredCredential,
  DesiredSettings,
  DesiredState,
  Endpoint,
  SubjectAltNames,
} from '@virt-trust/contract/model/desired-state.ts';
import type { Gate } from '@virt-trust/contract/model/gate.ts';
import type { DeclaredInterface, InterfaceRole } from '@virt-trust/contract/model/interface.ts';
import {
  type KeyAlgorithm,
  PURPOSE_OF_SERVICE,
  type Purpose,
  SERVICES,
  type Service,
} from '@virt-trust/contract/model/service.ts';
import { isPassed } from './gates.ts';
import type { Declaration, Host } from './host.ts';

export interface DesiredSettingsInput {
  readonly host: Pick<Host, 'found' | 'grantedGates' | 'declared'>;
  readonly migrationModes: readonly string[];
  /** kvm.libvirtd.tls.enabled. */
  readonly tls: DesiredSettings['tls'];
  readonly migrationWaitSeconds: number;
  readonly probeSeconds: number;
  /** Globs of the DNs under which virt-trust's own short-lived clients come. */
  readonly clientDns: readonly string[];
  /** Where displays listen. */
  readonly consoles: DesiredSettings['consoles'];
  /** Where agents find this manager. */
  readonly announceTo: DesiredSettings['announceTo'];
}

export interface DesiredStateInput extends DesiredSettingsInput {
  readonly host: Host;
  readonly epoch: number;
  readonly organization: string;
  readonly keyAlgorithm: KeyAlgorithm;
  /** The certificates of each purpose's authority, issuing CA first, in PEM. */
  readonly bundles: Readonly<Record<Purpose, string>>;
}

/** The roles of the interfaces on which clients reach a service; migrations connect to libvirt, too. */
const ROLES_OF_SERVICE: Readonly<Record<Service, readonly InterfaceRole[]>> = {
  libvirt: ['management', 'migration'],
  migration: ['migration'],
  vnc: ['display'],
  spice: ['display'],
  nbd: ['storage'],
  backup: ['storage'],
};

/** Where clients reach the services of a host: on the interfaces of their roles, or else of management. */
export function endpointsOf({ declared }: Pick<Host, 'declared'>): Endpoint[] {
  return SERVICES.flatMap((service) =>
    ROLES_OF_SERVICE[service]
      .flatMap((role) => interfacesOf(declared, role))
      .filter((one, index, all) => all.indexOf(one) === index)
      .map(({ name, names }) => ({ service, interface: name, names })),
  );
}

/** The interfaces that serve a role: those that have it, or else those of management. */
export function interfacesOf(declared: Declaration, role: InterfaceRole): readonly DeclaredInterface[] {
  const own = declared.interfaces.filter(({ roles }) => roles.includes(role));
  return own.length > 0 ? own : declared.interfaces.filter(({ roles }) => roles.includes('management'));
}

/** What the manager wants of a host, from what was declared and which gates were passed; pure. */
export function desiredStateOf(input: DesiredStateInput): DesiredState {
  const { host } = input;
  const passed = (gate: Gate) => isPassed(host, gate);
  return {
    epoch: input.epoch,
    number: host.desiredNumber,
    credentials: input.tls === 'off' ? [] : SERVICES.map((service) => credentialOf(input, service, passed)),
    settings: desiredSettingsOf(input),
  };
}

/** What the manager wants of a host besides its credentials; pure. */
export function desiredSettingsOf(input: DesiredSettingsInput): DesiredSettings {
  const { host, migrationModes } = input;
  const passed = (gate: Gate) => isPassed(host, gate);
  return {
    tls: input.tls,
    migrationWaitSeconds: input.migrationWaitSeconds,
    plainTcp: host.found?.tcpListening === true && passed('plain-tcp-off') ? 'off' : 'keep',
    vncTls: passed('vnc-tls') ? 'on' : 'keep',
    spiceTls: passed('vnc-tls') ? 'on' : 'keep',
    probeSeconds: input.probeSeconds,
    migrateTls: forcesTls(host, migrationModes) ? 'force' : 'allow',
    clientDns: host.found?.allowedDns === true ? [...input.clientDns] : [],
    migrationHost: migrationHostOf(host.declared),
    consoles: input.consoles,
    announceTo: [...input.announceTo],
  };
}

/**
 * What a source is told of where to send a VM, where migrations have an interface of their own: whoever migrates without
 * naming it then goes there, and verifies what it serves.
 */
function migrationHostOf({ interfaces }: Declaration): string | null {
  const own = interfaces.find(({ roles }) => roles.includes('migration') && !roles.includes('management'));
  return own?.names.dns[0] ?? own?.names.addresses[0] ?? null;
}

/**
 * Whether QEMU of the host is to refuse what is not native TLS. Plain migrations of others go on until plain TCP and the
 * found CA were let go (promise 6).
 */
export function forcesTls(
  host: Pick<Host, 'found' | 'grantedGates'>,
  migrationModes: readonly string[],
): boolean {
  const alone = migrationModes.length === 1 && migrationModes[0] === 'tls';
  const gates: readonly Gate[] = ['plain-tcp-off', 'retire-found-ca', 'serve'];
  return alone && gates.every((gate) => isPassed(host, gate));
}

function credentialOf(
  input: DesiredStateInput,
  service: Service,
  passed: (gate: Gate) => boolean,
): DesiredCredential {
  const { host } = input;
  const endpoints = endpointsOf(host).filter((endpoint) => endpoint.service === service);
  const { commonName, names } = credentialNames(host, service);
  const servesFound = host.found?.identities.includes(service) === true && !passed('serve');
  return {
    service,
    endpoints,
    identity: servesFound ? 'found' : 'ours',
    subject: { commonName, organization: input.organization },
    names,
    keyAlgorithm: input.keyAlgorithm,
    revision: host.revisions[service] ?? 0,
    bundle: input.bundles[PURPOSE_OF_SERVICE[service]],
    keepFoundTrust: host.found?.authorities.includes(service) === true && !passed('retire-found-ca'),
  };
}

/** What one service of a host is to be known by: its subject's common name and the names of all its endpoints. */
export function credentialNames(
  host: Host,
  service: Service,
): { commonName: string; names: SubjectAltNames } {
  const endpoints = endpointsOf(host).filter((endpoint) => endpoint.service === service);
  return { commonName: commonNameOf(host), names: unionOf(endpoints.map((endpoint) => endpoint.names)) };
}

/** X.520 bounds a common name at 64 characters; the SANs carry the names anyway. */
function commonNameOf(host: Pick<Host, 'name'>): string {
  return host.name.slice(0, 64);
}

function unionOf(all: readonly SubjectAltNames[]): SubjectAltNames {
  return {
    dns: [...new Set(all.flatMap((names) => names.dns))],
    addresses: [...new Set(all.flatMap((names) => names.addresses))],
  };
}
