import { TrustError } from '@virt-trust/base/error.ts';
import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { interfacesOf } from '../hosts/desired-state.ts';
import type { Host } from '../hosts/host.ts';
import { reportOf } from '../hosts/network-report.ts';
import type { CertificateSource } from '../hosts/ports.ts';
import { namesIn } from '../issuance/certificate-view.ts';
import {
  type MigrationAddresses,
  type MigrationDestination,
  type MigrationSide,
  migrationAddresses,
} from './addresses.ts';
import type { MigrationEnd } from './migration-end.ts';
import { servedSerialNumber } from './served-serial-number.ts';
import { sourceAddressOf } from './source-address.ts';

/** By what addresses a VM is migrated between two hosts. */
export interface PairAddresses extends Omit<MigrationAddresses, 'interface'> {
  /** The destination's interface that has QEMU's; null where it has no agent that would say. */
  readonly interface: string | null;
  /** Where the source's libvirt is reached from the destination. */
  readonly sourceAddress: string;
}

/**
 * The addresses of a migration, chosen from what is known of both hosts: with libvirt's certificate, whose names count,
 * and in the clear. Throws `migration.no_common_family`.
 */
export async function chosenAddresses(
  vm: string,
  from: MigrationEnd,
  to: MigrationEnd,
  certificates: Pick<CertificateSource, 'namesOf'>,
): Promise<Readonly<Record<'tls' | 'plain', PairAddresses>>> {
  const destination = await destinationOf(to, certificates);
  const unserved = { ...destination, served: { libvirt: null, migration: null } };
  const chosen = (side: MigrationDestination): PairAddresses => {
    const addresses = migrationAddresses(vm, sideOf(from), side);
    const sourceAddress = sourceAddressOf(from, addresses.migrationAddress);
    // Where the source has no address of its own there, the destination knows of none: nothing else would get there either.
    if (sourceAddress === null && from.kind !== 'managed') throw unreachable(vm, from, addresses);
    return {
      ...addresses,
      interface: to.kind === 'unmanaged' ? null : addresses.interface,
      sourceAddress: sourceAddress ?? '',
    };
  };
  return { tls: chosen(destination), plain: chosen(unserved) };
}

/** Of a host without an agent the address that an administrator gave is all that is known. */
function sideOf(end: MigrationEnd): MigrationSide {
  if (end.kind === 'unmanaged') {
    const names = { dns: [], addresses: [end.host.address] };
    return { host: end.name, interfaces: [{ name: 'network', roles: [], names }], reported: [] };
  }
  return {
    host: end.name,
    interfaces: interfacesOf(end.host.declared, 'migration'),
    reported: reportOf(end.host)?.interfaces ?? [],
  };
}

async function destinationOf(
  to: MigrationEnd,
  certificates: Pick<CertificateSource, 'namesOf'>,
): Promise<MigrationDestination> {
  const side = sideOf(to);
  if (to.kind === 'unmanaged')
    return {
      ...side,
      names: { dns: [], addresses: [to.host.address] },
      served: { libvirt: null, migration: null },
    };
  const [libvirt, migration] = await Promise.all(
    (['libvirt', 'migration'] as const).map((service) => namesServedBy(to.host, service, certificates)),
  );
  return {
    ...side,
    names: to.host.declared.names,
    served: { libvirt: libvirt ?? null, migration: migration ?? null },
  };
}

function unreachable(vm: string, from: MigrationEnd, { migrationAddress }: MigrationAddresses): TrustError {
  return new TrustError(
    'migration.no_common_family',
    'conflict',
    `cannot migrate ${vm}: no address is known at which ${from.name} would be reached from ${migrationAddress}`,
    { hint: `see: virt-trust host show ${from.name}` },
  );
}

/** The names of the certificate that a host serves: of our record of it, or of what was found there. */
async function namesServedBy(
  host: Host,
  service: 'libvirt' | 'migration',
  certificates: Pick<CertificateSource, 'namesOf'>,
): Promise<SubjectAltNames | null> {
  const serial = servedSerialNumber(host, service);
  const ours = serial === null ? null : await certificates.namesOf(serial);
  if (ours !== null) return ours;
  const pin = host.observed?.credentials.find((credential) => credential.service === service)?.pin;
  const file = host.inventory?.tlsFiles.find(
    (one) => one.role === 'server-certificate' && pin != null && one.certificate?.pin === pin,
  );
  try {
    const [leaf] = parseCertificates(file?.pem ?? '', 'tolerant');
    return leaf === undefined ? null : namesIn(leaf);
  } catch {
    return null;
  }
}
