import type { SubjectAltNames } from '@virt-trust/contract/model/desired-state.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { interfacesOf } from '../hosts/desired-state.ts';
import type { Host } from '../hosts/host.ts';
import { reportOf } from '../hosts/network-report.ts';
import type { HostsContext } from '../hosts/ports.ts';
import { namesIn } from '../issuance/certificate-view.ts';
import type { JobContext } from '../jobs/job.ts';
import { type MigrationAddresses, type MigrationSide, migrationAddresses } from './addresses.ts';

/** The addresses of a migration, chosen once from what is known of both hosts. Throws `migration.no_common_family`. */
export async function chosenAddresses(
  order: MigrateVm,
  [from, to]: readonly [Host, Host],
  context: HostsContext,
  job: JobContext,
): Promise<MigrationAddresses> {
  // A migration that was begun goes on as it began, whatever became of the addresses.
  const known = await job.recall('addresses');
  if (known !== undefined) return known as unknown as MigrationAddresses;
  const side = (host: Host): MigrationSide => ({
    host: host.name,
    interfaces: interfacesOf(host.declared, 'migration'),
    reported: reportOf(host)?.interfaces ?? [],
  });
  const [libvirt, migration] = await Promise.all(
    (['libvirt', 'migration'] as const).map((service) => namesServedBy(to, service, context)),
  );
  const addresses = migrationAddresses(order.vm, side(from), {
    ...side(to),
    names: to.declared.names,
    served: { libvirt: libvirt ?? null, migration: migration ?? null },
  });
  await job.remember('addresses', { ...addresses });
  return addresses;
}

/** The names of the certificate that a host serves: of our record of it, or of what was found there. */
async function namesServedBy(
  host: Host,
  service: 'libvirt' | 'migration',
  context: HostsContext,
): Promise<SubjectAltNames | null> {
  const serial = servedBy(host, service);
  const ours = serial === null ? null : await context.certificates.namesOf(serial);
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

/** The serial number of the certificate that a host said that it serves. */
export function servedBy(host: Host, service: 'libvirt' | 'migration'): string | null {
  return (
    host.observed?.credentials.find((credential) => credential.service === service)?.serialNumber ?? null
  );
}
