import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeError } from '@virt-trust/base/error.ts';
import { LIBVIRT_SYSTEM_FILES, PKIPATH_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';
import type { FileState } from '@virt-trust/libvirt/own-set.ts';

/** A file that a client would use, as it found it. */
export interface ClientFile {
  readonly path: string;
  readonly state: FileState;
}

/** The trust and the identity of a TLS client. */
export interface ClientFiles {
  readonly ca: ClientFile;
  readonly crl: ClientFile;
  readonly certificate: ClientFile;
  readonly key: ClientFile;
}

type Part = keyof ClientFiles;
type Paths = Readonly<Record<Part, string>>;

/** A CRL may be large; nothing else is. */
const SIZE_LIMIT = 64 << 20;

/** Where a client's files are looked for. */
export interface ClientPlaces {
  /** A user's home; null for root, who has none with libvirt. */
  readonly home: string | null;
  /** `/`, but for tests. */
  readonly root?: string;
}

/**
 * The files that libvirt's client takes (virNetTLSConfigUserCredentials and its kin in 9.0's virnettlscontext.c): all of
 * `pkipath`; else the user's and then the system's, CA and CRL each for itself, certificate and key as a pair.
 */
export function libvirtClientFiles(places: ClientPlaces, pkipath?: string): ClientFiles {
  if (pkipath !== undefined) return read(inDirectory(pkipath));
  const { caCertificate, crl, clientCertificate, clientKey } = LIBVIRT_SYSTEM_FILES;
  const system = read(
    below(places, { ca: caCertificate, crl, certificate: clientCertificate, key: clientKey }),
  );
  if (places.home === null) return system;
  return paired(read(inDirectory(join(places.home, '.pki/libvirt'))), system);
}

/** The files that gtk-vnc takes for virt-viewer and virt-manager. */
export function vncClientFiles(places: ClientPlaces): ClientFiles {
  const layout = (base: string): Paths => ({
    ca: join(base, 'CA/cacert.pem'),
    crl: join(base, 'CA/cacrl.pem'),
    certificate: join(base, 'libvirt-vnc/clientcert.pem'),
    key: join(base, 'libvirt-vnc/private/clientkey.pem'),
  });
  const system = read(below(places, layout('/etc/pki')));
  return places.home === null ? system : paired(read(layout(join(places.home, '.pki'))), system);
}

/** The CA that spice-gtk takes, who shows no certificate and reads no CRL; the system's is ours to offer. */
export function spiceClientFiles(places: ClientPlaces): ClientFiles {
  const none = join(places.root ?? '/', 'nonexistent');
  const system = read({
    ca: below(places, { ca: LIBVIRT_SYSTEM_FILES.caCertificate }).ca,
    crl: none,
    certificate: none,
    key: none,
  });
  if (places.home === null) return system;
  const own = read({ ...pathsOf(system), ca: join(places.home, '.spicec/spice_truststore.pem') });
  return own.ca.state.kind === 'missing' ? system : own;
}

/** A file in place of one that a client would find by itself. */
export function clientFile(path: string): ClientFile {
  return { path, state: stateOf(path) };
}

function inDirectory(directory: string): Paths {
  const { caCertificate, crl, clientCertificate, clientKey } = PKIPATH_FILE_NAMES;
  return {
    ca: join(directory, caCertificate),
    crl: join(directory, crl),
    certificate: join(directory, clientCertificate),
    key: join(directory, clientKey),
  };
}

function below<P extends Partial<Paths>>({ root = '/' }: ClientPlaces, paths: P): P {
  return Object.fromEntries(Object.entries(paths).map(([part, path]) => [part, join(root, path)])) as P;
}

function read(paths: Paths): ClientFiles {
  return {
    ca: clientFile(paths.ca),
    crl: clientFile(paths.crl),
    certificate: clientFile(paths.certificate),
    key: clientFile(paths.key),
  };
}

function pathsOf({ ca, crl, certificate, key }: ClientFiles): Paths {
  return { ca: ca.path, crl: crl.path, certificate: certificate.path, key: key.path };
}

function paired(user: ClientFiles, system: ClientFiles): ClientFiles {
  const one = (part: Part) => (user[part].state.kind === 'missing' ? system[part] : user[part]);
  const whole = user.certificate.state.kind !== 'missing' && user.key.state.kind !== 'missing';
  const { certificate, key } = whole ? user : system;
  return { ca: one('ca'), crl: one('crl'), certificate, key };
}

function stateOf(path: string): FileState {
  let file: number | undefined;
  try {
    file = openSync(path, 'r');
    const found = fstatSync(file);
    if (!found.isFile()) return { kind: 'unreadable', reason: 'it is no file' };
    if (found.size > SIZE_LIMIT) return { kind: 'unreadable', reason: `it has ${found.size} bytes` };
    return { kind: 'text', text: readFileSync(file, 'latin1') };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') return { kind: 'missing' };
    return { kind: 'unreadable', reason: describeError(error) };
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
