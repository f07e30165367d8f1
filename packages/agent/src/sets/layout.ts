import type { Service } from '@virt-trust/contract/model/service.ts';
import { LIBVIRT_SYSTEM_FILES, QEMU_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';

/** What a file of a generation holds. */
export type FileContent =
  | 'bundle'
  | 'certificate'
  | 'key'
  | 'client-certificate'
  | 'client-key'
  | 'dh-parameters';

/** Who must be able to read a file: root, the QEMU user, or everybody. */
export type Readers = 'root' | 'qemu' | 'all';

interface ServiceFile {
  /** Relative to the generation, such as `private/serverkey.pem`. */
  readonly name: string;
  readonly content: FileContent;
  readonly readers: Readers;
}

/** A path of the host that becomes a link into the service's current generation. */
export interface ServiceLink {
  readonly path: string;
  /** Relative to the generation; a file, or a directory of it. */
  readonly name: string;
}

/** The files of a service, where its readers look for them, and who those are. */
export interface ServiceLayout {
  readonly service: Service;
  readonly files: readonly ServiceFile[];
  readonly links: readonly ServiceLink[];
  /**
   * The name, relative to the generation, at which its readers look for a CRL: a link out of the generation to the
   * service's one CRL, since a generation can go back and a CRL never. Undefined where nothing reads one.
   */
  readonly crl?: string;
  /** Made one by one, outermost first, where they are missing. */
  readonly directories: readonly string[];
  /** Whether QEMU must be able to enter the directories. */
  readonly readers: Readers;
  /**
   * A directory that is linked as a whole where it did not exist: virt-pki-validate looks at a key's mode without
   * following links.
   */
  readonly wholeDirectory?: ServiceLink;
}

/** The default directory of a QEMU service, whose files become links. */
const QEMU_DIRECTORIES = {
  migration: '/etc/pki/libvirt-migrate',
  vnc: '/etc/pki/libvirt-vnc',
  spice: '/etc/pki/libvirt-spice',
  nbd: '/etc/pki/libvirt-nbd',
  backup: '/etc/pki/libvirt-backup',
} as const;

/**
 * What qemu.conf names. A VM keeps the directory of its VNC server for life, after a removal too; a default one that
 * stayed for it would be taken by libvirt for every VM to come.
 */
export const CONFIGURED_DIRECTORIES = {
  migration: QEMU_DIRECTORIES.migration,
  vnc: '/var/lib/virt-trust/services/vnc/current',
  spice: '/var/lib/virt-trust/services/spice/current',
  nbd: QEMU_DIRECTORIES.nbd,
  backup: QEMU_DIRECTORIES.backup,
} as const;

/** Whether a VNC server with this directory follows virt-trust's switch. */
export function isOurVncDirectory(directory: string | null): boolean {
  return directory === CONFIGURED_DIRECTORIES.vnc || directory === QEMU_DIRECTORIES.vnc;
}

const qemuFile = (name: string, content: FileContent): ServiceFile => ({ name, content, readers: 'qemu' });

function qemuLayout(
  service: keyof typeof QEMU_DIRECTORIES,
  files: readonly ServiceFile[],
  crl?: string,
): ServiceLayout {
  const directory = QEMU_DIRECTORIES[service];
  const names = [...files.map(({ name }) => name), ...(crl === undefined ? [] : [crl])];
  return {
    service,
    files,
    links: names.map((name) => ({ path: `${directory}/${name}`, name })),
    ...(crl === undefined ? {} : { crl }),
    directories: ['/etc/pki', directory],
    readers: 'qemu',
  };
}

/** All that SPICE reads. */
const SPICE_FILES: readonly ServiceFile[] = [
  qemuFile('ca-cert.pem', 'bundle'),
  qemuFile('server-cert.pem', 'certificate'),
  qemuFile('server-key.pem', 'key'),
];

const SERVER_FILES: readonly ServiceFile[] = [...SPICE_FILES, qemuFile('dh-params.pem', 'dh-parameters')];

/** Of a host that is now server, now client. */
const BOTH_ENDS_FILES: readonly ServiceFile[] = [
  ...SERVER_FILES,
  qemuFile('client-cert.pem', 'client-certificate'),
  qemuFile('client-key.pem', 'client-key'),
];

/** The layout of every service (facts of libvirt's remote driver and QEMU's tls-creds-x509). */
export const LAYOUTS: Readonly<Record<Service, ServiceLayout>> = {
  libvirt: {
    service: 'libvirt',
    files: [
      { name: 'cacert.pem', content: 'bundle', readers: 'all' },
      { name: 'servercert.pem', content: 'certificate', readers: 'all' },
      { name: 'private/serverkey.pem', content: 'key', readers: 'root' },
    ],
    links: [
      { path: LIBVIRT_SYSTEM_FILES.caCertificate, name: 'cacert.pem' },
      { path: LIBVIRT_SYSTEM_FILES.serverCertificate, name: 'servercert.pem' },
      { path: LIBVIRT_SYSTEM_FILES.serverKey, name: 'private/serverkey.pem' },
      { path: LIBVIRT_SYSTEM_FILES.crl, name: 'cacrl.pem' },
    ],
    crl: 'cacrl.pem',
    directories: ['/etc/pki', '/etc/pki/CA', '/etc/pki/libvirt'],
    readers: 'all',
    wholeDirectory: { path: '/etc/pki/libvirt/private', name: 'private' },
  },
  migration: qemuLayout('migration', BOTH_ENDS_FILES, QEMU_FILE_NAMES.crl),
  vnc: qemuLayout('vnc', SERVER_FILES, QEMU_FILE_NAMES.crl),
  spice: qemuLayout('spice', SPICE_FILES),
  nbd: qemuLayout('nbd', BOTH_ENDS_FILES, QEMU_FILE_NAMES.crl),
  backup: qemuLayout('backup', BOTH_ENDS_FILES, QEMU_FILE_NAMES.crl),
};

/** The links of a service on a host whose directory for keys existed, or not. */
export function linksOf(layout: ServiceLayout, wholeDirectory: boolean): readonly ServiceLink[] {
  const whole = layout.wholeDirectory;
  if (whole === undefined || !wholeDirectory) return layout.links;
  return [...layout.links.filter(({ name }) => !name.startsWith(`${whole.name}/`)), whole];
}

/** Mode and owner of a file or directory for its readers. */
export function attributesFor(
  readers: Readers,
  kind: 'file' | 'directory',
  qemuGid: number,
): { readonly mode: number; readonly uid: number; readonly gid: number } {
  const modes = {
    file: { root: 0o600, qemu: 0o640, all: 0o644 },
    directory: { root: 0o700, qemu: 0o750, all: 0o755 },
  };
  return { mode: modes[kind][readers], uid: OWNER, gid: readers === 'qemu' ? qemuGid : OWNER_GROUP };
}

/** Root; tests that are not root use their own. */
const OWNER = process.getuid?.() ?? 0;
const OWNER_GROUP = process.getgid?.() ?? 0;
