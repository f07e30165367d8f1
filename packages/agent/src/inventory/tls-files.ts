import { open, realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Accounts } from '@virt-trust/check/host/accounts.ts';
import { lineOf } from '@virt-trust/check/host/text.ts';
import type { FoundTlsFile } from '@virt-trust/contract/model/inventory.ts';
import { LIBVIRT_SYSTEM_FILES, QEMU_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';
import { formatDistinguishedName } from '@virt-trust/libvirt/session.ts';
import { encodeCertificatesPem, parseCertificates } from '@virt-trust/pki/certificate.ts';
import type { AgentPaths } from '../state/paths.ts';
import type { EffectiveSettings } from './settings.ts';

type Place = Pick<FoundTlsFile, 'path' | 'service' | 'role'>;

/** libvirt reads no more of a file. */
const SIZE_LIMIT = 65_536;
const MAX_FILES = 128;

/** The TLS files that libvirt and QEMU effectively use on this host, those that exist. */
export async function readTlsFiles(
  paths: AgentPaths,
  settings: EffectiveSettings,
  accounts: Accounts,
): Promise<FoundTlsFile[]> {
  const found: FoundTlsFile[] = [];
  for (const place of placesOf(settings).slice(0, MAX_FILES)) {
    const file = await readTlsFile(paths, place, accounts);
    if (file !== undefined) found.push(file);
  }
  return found;
}

function placesOf({ libvirtd, qemu }: EffectiveSettings): Place[] {
  const { caCertificate, crl, identities } = libvirtd.files;
  const libvirt: [FoundTlsFile['role'], string | undefined][] = [
    ['ca', caCertificate],
    ['crl', crl],
    ...identities.flatMap(({ certificate, key }): [FoundTlsFile['role'], string][] => [
      ['server-certificate', certificate],
      ['server-key', key],
    ]),
    ['client-certificate', LIBVIRT_SYSTEM_FILES.clientCertificate],
    ['client-key', LIBVIRT_SYSTEM_FILES.clientKey],
  ];
  return [
    ...libvirt.flatMap(([role, path]) =>
      path?.startsWith('/') ? [{ path, service: 'libvirt' as const, role }] : [],
    ),
    ...placesOfQemu('migration', qemu.services.migrate.directory),
    ...placesOfQemu('vnc', qemu.services.vnc.directory),
    ...placesOfQemu('spice', qemu.services.spice.directory),
    ...placesOfQemu('nbd', qemu.services.nbd.directory),
    ...placesOfQemu('backup', qemu.services.backup.directory),
  ];
}

function placesOfQemu(service: FoundTlsFile['service'], directory: string): Place[] {
  if (!directory.startsWith('/')) return [];
  const place = (role: FoundTlsFile['role'], name: string) => ({
    path: join(directory, name),
    service,
    role,
  });
  return [
    place('ca', QEMU_FILE_NAMES.caCertificate),
    place('crl', QEMU_FILE_NAMES.crl),
    place('server-certificate', QEMU_FILE_NAMES.serverCertificate),
    place('server-key', QEMU_FILE_NAMES.serverKey),
    place('client-certificate', QEMU_FILE_NAMES.clientCertificate),
    place('client-key', QEMU_FILE_NAMES.clientKey),
  ];
}

async function readTlsFile(
  paths: AgentPaths,
  place: Place,
  accounts: Accounts,
): Promise<FoundTlsFile | undefined> {
  const path = paths.at(place.path);
  try {
    const found = await stat(path);
    if (!found.isFile()) return undefined;
    const holdsCertificates = place.role === 'ca' || place.role.endsWith('-certificate');
    const certificates = holdsCertificates
      ? readCertificates(await readStart(path))
      : { certificate: null, pem: null };
    return {
      ...place,
      mode: found.mode & 0o7777,
      owner: await accounts.owner(found.uid, found.gid),
      ours: (await realpath(path)).startsWith(`${await realpath(paths.state).catch(() => paths.state)}/`),
      ...certificates,
    };
  } catch {
    // Not there, or unreadable, which for root means a broken link or a broken disk.
    return undefined;
  }
}

async function readStart(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(SIZE_LIMIT), 0, SIZE_LIMIT, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await file.close();
  }
}

function readCertificates(text: string): Pick<FoundTlsFile, 'certificate' | 'pem'> {
  try {
    const certificates = parseCertificates(text);
    const [first] = certificates;
    if (first === undefined) return { certificate: null, pem: null };
    // SECURITY: written anew from what was parsed, so that a key in the same file is never read out.
    const pem = encodeCertificatesPem(certificates);
    return {
      certificate: {
        subject: lineOf(formatDistinguishedName(first)),
        issuer: lineOf(formatDistinguishedName({ subject: first.issuer })),
        notAfter: first.notAfter,
        pin: first.pin,
      },
      pem: pem.length > SIZE_LIMIT ? null : pem,
    };
  } catch {
    return { certificate: null, pem: null };
  }
}
