import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { TlsRole } from '@virt-trust/libvirt/certificate-use.ts';
import { QEMU_FILE_NAMES, type QemuTlsService } from '@virt-trust/libvirt/layout.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import { verifyPath } from '@virt-trust/pki/path.ts';
import { checkConfinement } from './confinement.ts';
import type { HostFacts } from './host-facts.ts';
import { pathsIn, type SetPaths } from './layout.ts';
import { checkKeyMode, checkWay } from './modes.ts';
import { checkOwnNames } from './names.ts';
import { judgeSet } from './path-check.ts';
import { readFileState } from './reader.ts';
import type { CheckFinding, FindingGroup } from './report.ts';

const ROLES: Readonly<Record<QemuTlsService, readonly TlsRole[]>> = {
  vnc: ['server'],
  spice: ['server'],
  chardev: ['server', 'client'],
  migrate: ['server', 'client'],
  nbd: ['client'],
  backup: ['server'],
};

/** Each TLS directory that qemu.conf leads to, once, for all services that use it. */
export async function checkQemuDirectories(facts: HostFacts): Promise<FindingGroup[]> {
  const byDirectory = new Map<string, QemuTlsService[]>();
  for (const [service, settings] of Object.entries(facts.qemuSettings.services)) {
    const list = byDirectory.get(settings.directory) ?? [];
    byDirectory.set(settings.directory, [...list, service as QemuTlsService]);
  }
  const groups: FindingGroup[] = [];
  for (const [directory, services] of byDirectory) {
    groups.push({
      title: `QEMU's files for ${services.join(', ')} in ${directory}`,
      findings: await checkDirectory(facts, directory, services),
    });
  }
  return groups;
}

async function checkDirectory(
  facts: HostFacts,
  directory: string,
  services: readonly QemuTlsService[],
): Promise<CheckFinding[]> {
  const { qemuSettings, qemuUser, at, qemu } = facts;
  const found = await stat(directory).catch(() => undefined);
  const switchedOn = services.filter((service) => qemuSettings.services[service].tls === true);
  const explicit = services.some((service) => qemuSettings.services[service].origin !== 'default');
  if (found === undefined || !found.isDirectory()) {
    if (!explicit && switchedOn.length === 0) return [];
    const stops = services.some((service) => qemuSettings.services[service].origin === 'explicit');
    return [
      {
        severity: 'error',
        code: 'directory.missing',
        file: directory,
        text: stops
          ? 'qemu.conf names this directory and it is not there: the daemon does not start'
          : `there is no such directory: no VM with ${switchedOn.join(', ')} over TLS starts`,
        remedy: `mkdir -m 0755 ${directory} and put CA, certificate and key into it, or correct qemu.conf`,
      },
    ];
  }
  const findings: CheckFinding[] = [];
  const roles = [...new Set(services.flatMap((service) => ROLES[service]))];
  for (const role of roles) {
    const paths = pathsIn(directory, 'qemu', role);
    const certificate = await readFileState(paths.certificate);
    const used = switchedOn.some((service) => ROLES[service].includes(role));
    if (certificate.kind === 'missing' && !used) continue;
    const judged = await judgeSet(paths, { role, at, qemuUser }, qemu);
    findings.push(...judged, ...(await checkWay(paths.certificate, qemuUser)));
    findings.push(...(await checkKeyMode(paths.key, [0, qemuUser?.uid ?? 0])));
    if (role === 'client') continue;
    if (services.includes('spice')) findings.push(...(await checkForOpenssl(paths, at)));
    findings.push(...(await checkOwnNames(paths.certificate)));
    findings.push(...(await checkConfinement(directory, QEMU_FILE_NAMES.serverCertificate)));
    // SPICE takes DH parameters by another option, which libvirt does not give.
    const readers = services.filter((service) => ROLES[service].includes('server') && service !== 'spice');
    if (readers.length === 0) continue;
    if ((await readFileState(join(directory, QEMU_FILE_NAMES.dhParameters))).kind === 'missing') {
      findings.push({
        severity: 'note',
        code: 'dh_params.missing',
        file: join(directory, QEMU_FILE_NAMES.dhParameters),
        text: 'without it QEMU computes parameters at each start and reload, up to half a second during which the guest waits',
        remedy: `certtool --generate-dh-params --sec-param medium --outfile ${join(directory, QEMU_FILE_NAMES.dhParameters)}`,
      });
    }
  }
  const unique = (finding: CheckFinding, index: number) =>
    findings.findIndex(
      ({ code, file, text }) => code === finding.code && file === finding.file && text === finding.text,
    ) === index;
  return findings.filter(unique);
}

/** SPICE's server and clients verify with OpenSSL, which goes by RFC 5280 where GnuTLS does not. */
async function checkForOpenssl(paths: SetPaths, at: Instant): Promise<CheckFinding[]> {
  const [ca, own] = await Promise.all([readFileState(paths.ca), readFileState(paths.certificate)]);
  if (ca.kind !== 'text' || own.kind !== 'text') return [];
  try {
    const [leaf, ...intermediates] = parseCertificates(own.text);
    if (leaf === undefined) return [];
    const anchors = parseCertificates(ca.text);
    verifyPath({ leaf, intermediates, anchors, at, purpose: 'serverAuth', conformance: 'tolerant' });
    return [];
  } catch (error) {
    if (!isTrustError(error)) throw error;
    return [
      {
        severity: 'warning',
        code: 'spice.refused_by_clients',
        file: paths.certificate,
        text: `clients of SPICE verify with OpenSSL and may refuse it: ${error.message}`,
        remedy: `issue ${paths.certificate} again, and put its authorities up to the root into ${paths.ca}`,
      },
    ];
  }
}
