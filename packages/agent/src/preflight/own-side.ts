import { readFile } from 'node:fs/promises';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import type { HostFacts } from '@virt-trust/check/host-facts.ts';
import { pathsIn } from '@virt-trust/check/layout.ts';
import { checkWay } from '@virt-trust/check/modes.ts';
import { judgeSet } from '@virt-trust/check/path-check.ts';
import type { CheckFinding } from '@virt-trust/check/report.ts';
import { RELAY_PORTS } from '@virt-trust/contract/model/grant.ts';
import type { PreflightOrder } from '@virt-trust/contract/model/preflight.ts';
import { matchesGlob } from '@virt-trust/libvirt/session.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import type { CrlRecord } from '../crl/record.ts';
import { FindingList } from './finding-list.ts';

/** What of this host bears on a migration, as it was read. */
export interface OwnFacts {
  readonly host: HostFacts;
  /** `migrate_tls_force` as the libvirt that runs has it. */
  readonly isTlsForced: boolean;
  readonly at: Instant;
  /** Ports on which something listens. */
  readonly listening: ReadonlySet<number>;
  /** Of the migration authority; undefined where this host has none. */
  readonly crl: CrlRecord | undefined;
  readonly firewall: 'firewalld' | 'nftables-drop' | 'open';
  /** What virt-trust has open in it. */
  readonly opened: readonly string[];
}

/** What of a host itself would make a migration fail: files, trust, ports, firewall, switches. */
export async function ownFindings(order: PreflightOrder, facts: OwnFacts): Promise<FindingList['all']> {
  const list = new FindingList(order.own);
  if (order.mode === 'tls') {
    list.all.push(...(await fileFindings(order, facts)));
    if (order.role === 'destination') {
      await clientFindings(list, order, facts);
      list.all.push(...(await daemonFiles(order, facts)));
    }
    crlAge(list, order, facts);
  } else forceFinding(list, order, facts);
  if (order.role === 'destination') portFindings(list, order, facts);
  return list.all;
}

/** libvirt reads its configuration when it starts: a switch that was set since is of the next start. */
function forceFinding(list: FindingList, order: PreflightOrder, { host, isTlsForced }: OwnFacts): void {
  const fix = `take migrate_tls_force out of /etc/libvirt/qemu.conf on ${order.own} and restart libvirtd (virtqemud)`;
  if (isTlsForced)
    list.error(
      'tls.forced',
      `QEMU of ${order.own} refuses migrations without native TLS (migrate_tls_force), also those in mode ${order.mode}`,
      `use --mode tls; or ${fix}`,
    );
  else if (host.qemuSettings.migrateTlsForce)
    list.warning(
      'tls.forced',
      `${order.own} has migrate_tls_force in its qemu.conf since libvirt started there: from its next start on it refuses migrations in mode ${order.mode}`,
      `use --mode tls from then on; or ${fix}`,
    );
}

/** QEMU's files are read anew for each migration: what is wrong with them is wrong now. */
async function fileFindings(order: PreflightOrder, { host }: OwnFacts): Promise<FindingList['all']> {
  const list = new FindingList(order.own);
  const { directory } = host.qemuSettings.services.migrate;
  for (const role of ['server', 'client'] as const) {
    // The other end's is needed for a migration back alone.
    const isUsed = (role === 'server') === (order.role === 'destination');
    const paths = pathsIn(directory, 'qemu', role);
    const found: CheckFinding[] = [
      ...(await judgeSet(paths, { role, at: host.at, qemuUser: host.qemuUser }, host.qemu)),
      ...(await checkWay(paths.certificate, host.qemuUser)),
    ];
    const hasCertificate = await readFile(paths.certificate).then(
      () => true,
      () => false,
    );
    if (role === 'client' && !hasCertificate)
      list.add(
        isUsed ? 'error' : 'warning',
        'files.missing',
        `${order.own} has no client certificate for migrations (${paths.certificate}): the destination refuses it as the source`,
        `virt-trust host provision ${order.own}`,
      );
    for (const { code, severity, text, file, remedy } of found) {
      if (severity === 'note' || !/^[a-z]+\.[a-z_]+$/.test(code)) continue;
      const what = `QEMU's files for migrations on ${order.own} (${file}): ${text}`;
      const fix = remedy.replaceAll('GROUP-OF-QEMU', String(host.qemuUser?.gids[0] ?? 'libvirt-qemu'));
      list.add(severity === 'error' && isUsed ? 'error' : 'warning', code, what, fix);
    }
  }
  return list.all;
}

/** libvirt's own files: what it has loaded goes on, which the handshake shows; its next start or reload would not. */
async function daemonFiles(order: PreflightOrder, { host }: OwnFacts): Promise<FindingList['all']> {
  const list = new FindingList(order.own);
  const { files } = host.libvirtd;
  const [identity] = files.identities;
  if (identity === undefined || files.caCertificate === undefined) return [];
  const paths = {
    ca: files.caCertificate,
    crl: files.crl ?? '/nonexistent',
    certificate: identity.certificate,
    key: identity.key,
    dhParameters: undefined,
  };
  for (const { code, severity, text, file, remedy } of await judgeSet(
    paths,
    { role: 'server', at: host.at, qemuUser: undefined },
    host.libvirt,
  ))
    if (severity === 'error')
      list.warning(code, `libvirt's files on ${order.own} (${file}): ${text}`, remedy);
  return list.all;
}

/** Whether libvirt here would take the client of a migration: its authority, its DN, and no more than a certificate. */
async function clientFindings(list: FindingList, order: PreflightOrder, { host }: OwnFacts): Promise<void> {
  const { libvirtd, daemonFile } = host;
  const { own, peer, controlBundle, clientDn } = order;
  if (libvirtd.authTls !== 'none')
    list.error(
      'libvirt.authentication',
      `libvirt of ${own} demands ${libvirtd.authTls} besides a certificate (auth_tls), which no migration gives`,
      `set auth_tls = "none" in ${daemonFile} and restart the daemon: who may connect is then decided by certificates`,
    );
  const globs = libvirtd.tlsAllowedDnList;
  if (globs !== undefined && clientDn !== null && !globs.some((glob) => matchesGlob(glob, clientDn)))
    list.error(
      'trust.dn_list',
      `tls_allowed_dn_list of ${own} leaves out ${clientDn}: its libvirt refuses the migration's client`,
      `virt-trust host provision ${own}, which adds it`,
    );
  if (controlBundle === null) return;
  const file = libvirtd.files.caCertificate;
  const trusted = await trustedPins(file);
  const [issuer] = parseCertificates(controlBundle);
  if (issuer !== undefined && trusted !== undefined && !trusted.has(issuer.pin))
    list.error(
      'trust.client_authority',
      `libvirt of ${own} trusts only what is in ${file}, where the authority of ${peer}'s client certificate is not: it refuses the migration's client`,
      `virt-trust host provision ${own}`,
    );
}

async function trustedPins(file: string | undefined): Promise<ReadonlySet<string> | undefined> {
  if (file === undefined) return undefined;
  try {
    return new Set(parseCertificates(await readFile(file, 'utf8'), 'tolerant').map(({ pin }) => pin));
  } catch {
    return new Set();
  }
}

/** GnuTLS obeys a CRL whatever its age: that what was revoked since is not known shows nowhere else. */
function crlAge(list: FindingList, { own }: PreflightOrder, { crl, at }: OwnFacts): void {
  const due = crl?.installed.nextUpdate;
  if (crl === undefined)
    list.warning(
      'crl.missing',
      `${own} has no CRL for migrations: it takes a host whose certificate was revoked`,
      'see why it did not come: virt-trust crl status',
    );
  else if (due !== undefined && due < at)
    list.warning(
      'crl.stale',
      `the CRL for migrations on ${own} was to be replaced by ${formatInstant(due as Instant)}: what was revoked since is not known there`,
      'see why none came: virt-trust crl status',
    );
}

/** Ports that the destination needs. */
function portFindings(
  list: FindingList,
  order: PreflightOrder,
  { host, listening, firewall, opened }: OwnFacts,
): void {
  const { migrationPortMin, migrationPortMax } = host.qemuSettings;
  const range = order.mode === 'pinned' ? RELAY_PORTS : { min: migrationPortMin, max: migrationPortMax };
  const needed = order.mode !== 'pinned' && order.options.copyStorage !== 'none' ? 2 : 1;
  let free = 0;
  for (let port = range.min; port <= range.max && free < needed; port++) if (!listening.has(port)) free++;
  if (free < needed)
    list.error(
      'port.none_free',
      `${order.own} has ${free} free ports of ${range.min}-${range.max}, and the migration needs ${needed}`,
      order.mode === 'pinned'
        ? 'wait for the end of other migrations'
        : `wait for the end of other migrations, or widen migration_port_max in /etc/libvirt/qemu.conf and restart the daemon`,
    );
  // The relay's port is opened for the grant.
  if (order.mode === 'tls' && firewall !== 'open' && !opened.includes('migration'))
    list.warning(
      'firewall.closed',
      `virt-trust has not opened ${range.min}-${range.max} in the firewall of ${order.own} (${firewall})`,
      `virt-trust host provision ${order.own}`,
    );
}
