import { BlockList, isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { DeclaredInterface } from '@virt-trust/contract/model/interface.ts';
import type { Interface } from '@virt-trust/contract/model/inventory.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import { canonicalIpAddress } from '@virt-trust/pki/ip-address.ts';

/** One host of a migration. */
export interface MigrationSide {
  readonly host: string;
  /** Those that serve migrations. */
  readonly interfaces: readonly DeclaredInterface[];
  /** What its kernel was last seen to have. */
  readonly reported: readonly Interface[];
}

/** Where a VM is to arrive, as its destination is declared and served. */
export interface MigrationDestination extends MigrationSide {
  /** All that it was declared by, management first. */
  readonly names: SubjectAltNames;
  /** What the certificates that it serves now are good for; null where that is not known. */
  readonly served: Readonly<Record<'libvirt' | 'migration', SubjectAltNames | null>>;
}

/** By what addresses a VM is migrated, and the destination's interface that has QEMU's. */
export interface MigrationAddresses
  extends Pick<NonNullable<MigrationOrder['stream']>, 'listenAddress' | 'tlsDestination'> {
  readonly libvirtAddress: string;
  /** Of QEMU's stream. */
  readonly migrationAddress: string;
  readonly interface: string;
}

interface Candidate {
  readonly interface: string;
  readonly address: string;
  readonly isCertified: boolean;
  readonly isReported: boolean;
  readonly isNear: boolean;
}

/**
 * Chooses among the addresses of the destination's migration interfaces one of a family that both hosts have there,
 * IPv4 first; then what it serves a certificate for, what its kernel has and what is in a subnet of the source's, in
 * that order, and of equals the first that was declared. Throws `migration.no_common_family`.
 */
export function migrationAddresses(
  vm: string,
  source: MigrationSide,
  destination: MigrationDestination,
): MigrationAddresses {
  const families = new Set(addressesOf(source).map((address) => isIP(address)));
  const candidates = candidatesOf(source, destination).filter(({ address }) => families.has(isIP(address)));
  const [best] = candidates.toSorted((a, b) => rank(b) - rank(a));
  if (best === undefined) throw noCommonFamily(vm, source, destination);
  const { served } = destination;
  const forLibvirt = [
    best.address,
    ...candidates.map(({ address }) => address),
    ...destination.names.addresses,
  ];
  return {
    interface: best.interface,
    migrationAddress: best.address,
    listenAddress: best.isReported ? best.address : null,
    tlsDestination: best.isCertified ? null : certifiedName(destination),
    // libvirt's client verifies the URI's host and takes no other name for it.
    libvirtAddress: forLibvirt.find((address) => includes(served.libvirt, address)) ?? best.address,
  };
}

function candidatesOf(source: MigrationSide, destination: MigrationDestination): Candidate[] {
  const near = subnetsOf(source);
  return destination.interfaces.flatMap(({ name, names }) => {
    const usable = new Set(usableOf(destination, name).map(({ address }) => address));
    return names.addresses.map((address) => ({
      interface: name,
      address,
      isCertified: includes(destination.served.migration, address),
      isReported: usable.has(canonicalIpAddress(address)),
      isNear: near.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4'),
    }));
  });
}

function rank({ address, isCertified, isReported, isNear }: Candidate): number {
  return [isIP(address) === 4, isCertified, isReported, isNear].reduce(
    (sum, one) => sum * 2 + Number(one),
    0,
  );
}

/** The addresses from which a host can reach others on its migration interfaces, declared or not. */
function addressesOf(side: MigrationSide): string[] {
  const declared = side.interfaces.flatMap(({ names }) => names.addresses);
  const reported = side.interfaces.flatMap(({ name }) => usableOf(side, name)).map(({ address }) => address);
  return [...new Set([...declared, ...reported])];
}

function subnetsOf(side: MigrationSide): BlockList {
  const list = new BlockList();
  for (const { name } of side.interfaces)
    for (const { address, prefixLength, family } of usableOf(side, name))
      list.addSubnet(address, prefixLength, family);
  return list;
}

function usableOf(side: MigrationSide, name: string): Interface['addresses'] {
  const found = side.reported.find((one) => one.name === name);
  return (found?.addresses ?? []).filter(({ leftOut, scope }) => leftOut === null && scope === 'global');
}

/** Where nothing is known of a certificate, it has what was declared. */
function includes(names: SubjectAltNames | null, address: string): boolean {
  if (names === null) return true;
  const wanted = canonicalIpAddress(address);
  return names.addresses.some((one) => canonicalIpAddress(one) === wanted);
}

/** SECURITY: of the certificate's names only one that is the destination's own is taken for it. */
function certifiedName({ names, served }: MigrationDestination): string | null {
  return served.migration?.dns.find((name) => names.dns.includes(name.toLowerCase())) ?? null;
}

function noCommonFamily(vm: string, source: MigrationSide, destination: MigrationSide): TrustError {
  const list = (side: MigrationSide, addresses: readonly string[]) => {
    const where = side.interfaces.map(({ name }) => name).join(', ') || 'no interface';
    return `${side.host} has ${addresses.join(', ') || 'no address'} on ${where}`;
  };
  const declared = destination.interfaces.flatMap(({ names }) => names.addresses);
  return new TrustError(
    'migration.no_common_family',
    'conflict',
    `cannot migrate ${vm}: ${source.host} and ${destination.host} have no address family in common for migrations: ${list(source, addressesOf(source))}; ${list(destination, declared)}`,
    {
      hint: `see: virt-trust interface list ${destination.host}; give both addresses of one family, or change the setting role.migration`,
    },
  );
}
