import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
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

/** How a directory names its files: libvirt's `pkipath`, libvirt's system files as under /etc/pki, QEMU's. */
export type Layout = 'pkipath' | 'system' | 'qemu';

/** Who reads a layout. */
export function programOf(layout: Layout): Checker['program'] {
  return layout === 'qemu' ? 'qemu' : 'libvirt';
}

/** The files of a directory in one layout; `number` for a further identity. */
export function pathsIn(directory: string, layout: Layout, role: TlsRole, number?: number): SetPaths {
  const at = (...names: string[]) => join(directory, ...names);
  if (layout !== 'qemu') {
    const suffix = number ?? '';
    const [authorities, own, keys] =
      layout === 'system' ? [['CA'], ['libvirt'], ['libvirt', 'private']] : [[], [], []];
    return {
      ca: at(...authorities, PKIPATH_FILE_NAMES.caCertificate),
      crl: at(...authorities, PKIPATH_FILE_NAMES.crl),
      certificate: at(...own, `${role}cert${suffix}.pem`),
      key: at(...keys, `${role}key${suffix}.pem`),
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

/** Names by which a layout is told; of those in the second pattern alone nobody lives. */
const NAMES: readonly (readonly [layout: Layout, own: RegExp, besides: RegExp])[] = [
  ['pkipath', /^(?:cacert|(?:server|client)(?:cert|key)\d?)\.pem$/, /^cacrl\.pem$/],
  [
    'system',
    /^(?:CA\/cacert|libvirt\/(?:(?:server|client)cert|private\/(?:server|client)key)\d?)\.pem$/,
    /^CA\/cacrl\.pem$/,
  ],
  ['qemu', /^(?:ca-cert|(?:server|client)-(?:cert|key)(?:-\d)?)\.pem$/, /^(?:ca-crl|dh-params)\.pem$/],
];

/** The layouts that a directory has, by the names of its files; none where none tells. */
export function layoutsOf(names: readonly string[]): Layout[] {
  const having = (pattern: 1 | 2) =>
    NAMES.filter((each) => names.some((name) => each[pattern].test(name))).map(([layout]) => layout);
  const found = having(1);
  return found.length > 0 ? found : having(2);
}

/** What there is in a directory, as far as layouts are concerned. */
export type DirectoryNames =
  | { readonly kind: 'names'; readonly names: readonly string[] }
  | { readonly kind: 'missing' | 'no-directory' | 'closed' };

/** The names in a directory and in the two below it of libvirt's system files. */
export async function namesIn(directory: string): Promise<DirectoryNames> {
  const own = await list(directory);
  // One that may be passed through and not listed serves libvirt all the same.
  if (own.kind === 'closed') return probe(directory);
  if (own.kind !== 'names') return own;
  const names = [...own.names];
  for (const below of ['CA', 'libvirt', 'libvirt/private']) {
    const inner = await list(join(directory, below));
    if (inner.kind === 'names') names.push(...inner.names.map((name) => `${below}/${name}`));
  }
  return { kind: 'names', names };
}

async function list(directory: string): Promise<DirectoryNames> {
  try {
    return { kind: 'names', names: await readdir(directory) };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOTDIR') return { kind: 'no-directory' };
    return { kind: code === 'EACCES' || code === 'EPERM' ? 'closed' : 'missing' };
  }
}

async function probe(directory: string): Promise<DirectoryNames> {
  const names: string[] = [];
  for (const layout of ['pkipath', 'system', 'qemu'] as const) {
    for (const role of ['server', 'client'] as const) {
      const { ca, certificate, key } = pathsIn(directory, layout, role);
      for (const path of [ca, certificate, key]) {
        try {
          await stat(path);
          names.push(relative(directory, path));
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code === 'EACCES' && layout !== 'system')
            return { kind: 'closed' };
        }
      }
    }
  }
  return { kind: 'names', names };
}
