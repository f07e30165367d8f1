import Type, { type Static } from 'typebox';
import { Address, Count, InterfaceName, Line, Path, Pem, Pin, Port, Time, Uuid } from './primitives.ts';
import { Service } from './service.ts';

const strict = { additionalProperties: false };

export const InterfaceAddress = Type.Object(
  {
    address: Address,
    family: Type.Union([Type.Literal('ipv4'), Type.Literal('ipv6')]),
    prefixLength: Type.Integer({ minimum: 0, maximum: 128 }),
    scope: Type.Union([
      Type.Literal('global'),
      Type.Literal('link'),
      Type.Literal('host'),
      Type.Literal('other'),
    ]),
    /** Of privacy (RFC 8981): for connections from the host, gone in a day. */
    temporary: Type.Boolean(),
    /** Past its preferred time (RFC 4862 §5.5.4): good until it vanishes. */
    deprecated: Type.Boolean(),
    /** Why no client is told of it: link-local, temporary, tentative, ...; null where clients may be. */
    leftOut: Type.Union([Line, Type.Null()]),
  },
  strict,
);
export type InterfaceAddress = Static<typeof InterfaceAddress>;

export const Interface = Type.Object(
  {
    name: InterfaceName,
    up: Type.Boolean(),
    /** Link kind as `ip -d link` says it (bridge, bond, vlan, veth, ...); empty for plain hardware. */
    kind: Line,
    macAddress: Line,
    /** The bridge or bond that it is a port of. */
    master: Type.Union([InterfaceName, Type.Null()]),
    /** The interface that it is a VLAN, or the like, of. */
    parent: Type.Union([InterfaceName, Type.Null()]),
    /** Why it can't have a role: loopback, a guest's tap, a network of libvirt's own, ...; null where it can. */
    leftOut: Type.Union([Line, Type.Null()]),
    addresses: Type.Array(InterfaceAddress, { maxItems: 64 }),
  },
  strict,
);
export type Interface = Static<typeof Interface>;

/** A host's name and interfaces, once they have come to rest. */
export const HostNetwork = Type.Object(
  { hostName: Line, interfaces: Type.Array(Interface, { maxItems: 512 }) },
  strict,
);
export type HostNetwork = Static<typeof HostNetwork>;

export const RunningVm = Type.Object(
  {
    uuid: Uuid,
    name: Type.String({ maxLength: 255 }),
    state: Line,
    /** Process of its QEMU, with its start time in clock ticks since boot: what shows that it was not restarted. */
    pid: Count,
    startTicks: Count,
    vnc: Type.Array(
      Type.Object({ listen: Line, port: Port, tlsDirectory: Type.Union([Path, Type.Null()]) }, strict),
      { maxItems: 8 },
    ),
    /** `port` without TLS, `tlsPort` with it; the directory is the one that it started with. */
    spice: Type.Array(
      Type.Object(
        {
          listen: Line,
          port: Type.Union([Port, Type.Null()]),
          tlsPort: Type.Union([Port, Type.Null()]),
          tlsDirectory: Type.Union([Path, Type.Null()]),
        },
        strict,
      ),
      { maxItems: 8 },
    ),
  },
  strict,
);
export type RunningVm = Static<typeof RunningVm>;

/** A TLS file that was found where libvirt or QEMU look. Keys are named, never read out. */
export const FoundTlsFile = Type.Object(
  {
    path: Path,
    service: Service,
    role: Type.Union([
      Type.Literal('ca'),
      Type.Literal('crl'),
      Type.Literal('server-certificate'),
      Type.Literal('server-key'),
      Type.Literal('client-certificate'),
      Type.Literal('client-key'),
    ]),
    mode: Type.Integer({ minimum: 0, maximum: 0o7777 }),
    owner: Line,
    /** True where it is a link of virt-trust's own. */
    ours: Type.Boolean(),
    /** Subject, issuer, expiry and pin of the first certificate in it; null for keys, CRLs and what cannot be read. */
    certificate: Type.Union([
      Type.Object({ subject: Line, issuer: Line, notAfter: Time, pin: Pin }, strict),
      Type.Null(),
    ]),
    /** The certificates themselves (public), for CA bundles. */
    pem: Type.Union([Pem, Type.Null()]),
  },
  strict,
);
export type FoundTlsFile = Static<typeof FoundTlsFile>;

/** Somebody connected to this host's libvirtd over the network, or whom it is connected to. */
const LibvirtConnection = Type.Object(
  {
    direction: Type.Union([Type.Literal('client'), Type.Literal('peer')]),
    address: Address,
    transport: Type.Union([Type.Literal('tls'), Type.Literal('tcp')]),
  },
  strict,
);

export const LibvirtFacts = Type.Object(
  {
    version: Type.String({ pattern: '^\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}$' }),
    daemonMode: Type.Union([Type.Literal('monolithic'), Type.Literal('modular')]),
    /** True where the daemon answers on its local socket. */
    running: Type.Boolean(),
    hostUuid: Line,
    tlsListening: Type.Boolean(),
    tcpListening: Type.Boolean(),
    authTls: Line,
    sasl: Type.Boolean(),
    /** `tls_allowed_dn_list` where it is set. */
    allowedDns: Type.Union([Type.Array(Line, { maxItems: 256 }), Type.Null()]),
    migrateTlsForce: Type.Boolean(),
    vncTls: Type.Boolean(),
    vncTlsVerify: Type.Boolean(),
    spiceTls: Type.Boolean(),
    definedVms: Count,
  },
  strict,
);
export type LibvirtFacts = Static<typeof LibvirtFacts>;

export const Inventory = Type.Object(
  {
    takenAt: Time,
    hostName: Line,
    machineId: Line,
    distribution: Type.Object({ id: Line, version: Line, prettyName: Line }, strict),
    architecture: Line,
    libvirt: Type.Union([LibvirtFacts, Type.Null()]),
    qemu: Type.Union([
      Type.Object(
        { version: Type.String({ pattern: '^\\d{1,3}\\.\\d{1,3}\\.\\d{1,3}$' }), user: Line, group: Line },
        strict,
      ),
      Type.Null(),
    ]),
    lsm: Type.Union([Type.Literal('apparmor'), Type.Literal('selinux'), Type.Literal('none')]),
    firewall: Type.Union([Type.Literal('firewalld'), Type.Literal('nftables-drop'), Type.Literal('open')]),
    interfaces: Type.Array(Interface, { maxItems: 512 }),
    runningVms: Type.Array(RunningVm, { maxItems: 4096 }),
    tlsFiles: Type.Array(FoundTlsFile, { maxItems: 128 }),
    /** The settings of libvirt and QEMU that bear on TLS, as found: file, key and value text. */
    settings: Type.Array(
      Type.Object({ file: Path, key: Line, value: Type.String({ maxLength: 4096 }) }, strict),
      { maxItems: 512 },
    ),
    connections: Type.Array(LibvirtConnection, { maxItems: 4096 }),
  },
  strict,
);
export type Inventory = Static<typeof Inventory>;
