import type { HostId } from '@virt-trust/base/host-id.ts';
import { parseSpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { FoundTlsFile, Interface, Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { ObservedCredential, ObservedState } from '@virt-trust/contract/model/observed-state.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import type { Declaration, FoundFacts, Host } from './host.ts';

type LibvirtFacts = NonNullable<Inventory['libvirt']>;

/** A fresh host: nothing was found on it that anybody relies on. */
export const NOTHING_FOUND: FoundFacts = {
  identities: [],
  authorities: [],
  tcpListening: false,
  vncTls: false,
  vms: 0,
  allowedDns: false,
};

export function testInterface(
  name: string,
  addresses: readonly string[],
  more: Partial<Interface> = {},
): Interface {
  return {
    name,
    up: true,
    kind: '',
    macAddress: '02:00:00:00:00:01',
    master: null,
    parent: null,
    leftOut: null,
    addresses: addresses.map((address) => ({
      address,
      family: address.includes(':') ? ('ipv6' as const) : ('ipv4' as const),
      prefixLength: address.includes(':') ? 64 : 24,
      scope: address.startsWith('fe80') ? ('link' as const) : ('global' as const),
      temporary: false,
      deprecated: false,
      leftOut: address.startsWith('fe80') ? 'link-local' : null,
    })),
    ...more,
  };
}

export function testTlsFile(
  service: FoundTlsFile['service'],
  role: FoundTlsFile['role'],
  ours = false,
): FoundTlsFile {
  return {
    path: `/etc/pki/${service}/${role}`,
    service,
    role,
    mode: 0o644,
    owner: 'root:root',
    ours,
    certificate: null,
    pem: null,
  };
}

/** A monolithic libvirtd that serves TLS alone. */
export function testLibvirt(more: Partial<LibvirtFacts> = {}): LibvirtFacts {
  return {
    version: '9.0.0',
    daemonMode: 'monolithic',
    running: true,
    hostUuid: '',
    tlsListening: true,
    tcpListening: false,
    authTls: 'none',
    sasl: false,
    allowedDns: null,
    migrateTlsForce: false,
    vncTls: false,
    vncTlsVerify: false,
    spiceTls: false,
    definedVms: 0,
    ...more,
  };
}

export function testInventory(more: Partial<Inventory> = {}): Inventory {
  return {
    takenAt: 0,
    hostName: 'host-a',
    machineId: '0'.repeat(32),
    distribution: { id: 'debian', version: '12', prettyName: 'Debian GNU/Linux 12 (bookworm)' },
    architecture: 'x86_64',
    libvirt: null,
    qemu: null,
    lsm: 'none',
    firewall: 'open',
    interfaces: [testInterface('eth0', ['192.0.2.11', '2001:db8::11'])],
    runningVms: [],
    tlsFiles: [],
    settings: [],
    connections: [],
    ...more,
  };
}

/** Every service settled with the identity. */
export function settledState(
  identity: ObservedCredential['identity'],
  more: Partial<ObservedState> = {},
): ObservedState {
  return {
    mode: 'manage',
    epoch: 1,
    number: 1,
    credentials: SERVICES.map((service) => ({
      service,
      generation: 1,
      candidate: null,
      identity,
      serialNumber: '01',
      pin: null,
      notAfter: null,
      phase: 'settled',
      proofs: [],
      failure: null,
    })),
    pending: [],
    served: [],
    crls: [],
    rescues: [],
    network: null,
    capabilities: null,
    failure: null,
    busy: false,
    ...more,
  };
}

/** All on one interface, for management. */
export function declaredOn(name: string, names: SubjectAltNames): Declaration {
  return { interface: name, names, interfaces: [{ name, roles: ['management'], names }], refused: [] };
}

export function testHost(name: string, more: Partial<Host> = {}): Host {
  const digit = Number(name.at(-1)) || 9;
  return {
    id: `00000000-0000-4000-8000-00000000000${digit}` as string as HostId,
    name,
    cluster: 'default',
    state: 'secured',
    reason: null,
    ssh: { destination: `root@${name}` },
    sshHostKey: 'ssh-ed25519 AAAA',
    channel: { address: `192.0.2.1${digit}`, port: 16515 },
    managerAddresses: ['192.0.2.1'],
    observeOnly: false,
    agentPins: [parseSpkiPin(`sha256:${'A'.repeat(43)}`)],
    declared: declaredOn('eth0', { dns: [name], addresses: [`192.0.2.1${digit}`] }),
    word: {
      dns: [name],
      accepted: [`192.0.2.1${digit}`],
      outside: { dns: [], addresses: [] },
      interfaces: {},
    },
    found: NOTHING_FOUND,
    grantedGates: [],
    desiredNumber: 1,
    revisions: {},
    inventory: testInventory({ hostName: name }),
    observed: settledState('ours'),
    ...more,
  };
}
