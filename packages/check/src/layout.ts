import { join } from 'node:path';
import type { TlsRole } from '@virt-trust/libvirt/certificate-use.ts';
import type { Checker } from '@virt-trust/libvirt/checker.ts';
import { PKIPATH_FILE_NAMES, QEMU_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';

/** The paths of one side's files. */
export interface SetPaths {
  readonly ca: string;
  readonly crl: string;
  readonly certificate: string;
  readonly key: string;
  readonly dhParameters: string | undefined;
}

/** How many further identities with a number there may be. */
export const NUMBERED_IDENTITIES = 4;

/** The files of a directory in libvirt's `pkipath` layout or in QEMU's; `number` for a further identity. */
export function pathsIn(
  directory: string,
  program: Checker['program'],
  role: TlsRole,
  number?: number,
): SetPaths {
  const at = (name: string) => join(directory, name);
  if (program === 'libvirt') {
    const suffix = number ?? '';
    return {
      ca: at(PKIPATH_FILE_NAMES.caCertificate),
      crl: at(PKIPATH_FILE_NAMES.crl),
      certificate: at(`${role}cert${suffix}.pem`),
      key: at(`${role}key${suffix}.pem`),
      dhParameters: undefined,
    };
  }
  const suffix = number === undefined ? '' : `-${number}`;
  return {
    ca: at(QEMU_FILE_NAMES.caCertificate),
    crl: at(QEMU_FILE_NAMES.crl),
    certificate: at(`${role}-cert${suffix}.pem`),
    key: at(`${role}-key${suffix}.pem`),
    dhParameters: at(QEMU_FILE_NAMES.dhParameters),
  };
}

/** Whose layout a directory has, by the names of its files; libvirt's where none tells. */
export function layoutsOf(names: readonly string[]): Checker['program'][] {
  const qemu = names.some((name) =>
    /^(?:ca-(?:cert|crl)|(?:server|client)-(?:cert|key)(?:-\d)?|dh-params)\.pem$/.test(name),
  );
  const libvirt = names.some((name) => /^(?:cacert|cacrl|(?:server|client)(?:cert|key)\d?)\.pem$/.test(name));
  const found: Checker['program'][] = [];
  if (libvirt) found.push('libvirt');
  if (qemu) found.push('qemu');
  return found;
}
