import { TrustError } from '@virt-trust/base/error.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { parseCrlNumber } from '@virt-trust/pki/crl-number.ts';
import { type CrlRecord, crlDocument } from '../crl/record.ts';
import { readOne, verifyDelivery } from '../crl/verify.ts';
import type { AgentPaths } from '../state/paths.ts';

/**
 * Refuses a destination whose QEMU serves a certificate that this host's migration CRL names: QEMU loads a CRL as a
 * server alone, so that a source would not see it. Throws `migration.destination_revoked`.
 */
export async function refuseRevokedDestination(
  paths: AgentPaths,
  { vm, to, tls }: Pick<MigrationOrder, 'vm' | 'to' | 'tls'>,
): Promise<void> {
  if (tls === null) return;
  const { migrationSerialNumber } = tls;
  const record = await recordOf(paths, 'migration');
  if (record === undefined) return;
  const serial = BigInt(`0x${migrationSerialNumber}`);
  for (const entry of readOne(record.pem).entries) {
    if (BigInt(`0x${entry.serialNumber}`) !== serial) continue;
    throw new TrustError(
      'migration.destination_revoked',
      'denied',
      `cannot migrate ${vm} to ${to}: its migration certificate ${migrationSerialNumber} is revoked (${entry.reason})`,
      { hint: 'choose another host, or provision that one again once it can be trusted' },
    );
  }
}

/**
 * The CRL by which libvirt's client judges the destination's libvirtd: the one that came with the order or the one that
 * the host has, whichever is newer; undefined where there is none. Throws `crl.*` for one that is not the authority's.
 */
export async function controlCrlOf(
  paths: AgentPaths,
  { controlCrl, controlBundle }: Pick<NonNullable<MigrationOrder['tls']>, 'controlCrl' | 'controlBundle'>,
): Promise<string | undefined> {
  const known = await recordOf(paths, 'control');
  const [authority] = parseCertificates(controlBundle);
  const own = known !== undefined && known.issuerPin === authority?.pin ? known : undefined;
  if (controlCrl === null) return own?.pem;
  // Its age is not judged: an overdue CRL revokes what it revokes, and the order that it came with is new.
  const at = readOne(controlCrl).thisUpdate;
  const given = verifyDelivery({ purpose: 'control', crl: controlCrl }, controlBundle, undefined, at);
  const isOlder =
    own !== undefined && parseCrlNumber(given.installed.number) < parseCrlNumber(own.installed.number);
  return isOlder ? own.pem : given.pem;
}

async function recordOf(
  paths: AgentPaths,
  purpose: CrlRecord['installed']['purpose'],
): Promise<CrlRecord | undefined> {
  const records = await crlDocument(paths).read();
  return records?.crls.find(({ installed }) => installed.purpose === purpose);
}
