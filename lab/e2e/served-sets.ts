import assert from 'node:assert/strict';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { connect } from 'node:tls';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { Host } from '../src/host.ts';

/** Where libvirt and QEMU look by default: CA, certificate, key. */
const PATHS: Readonly<Record<Service, readonly [ca: string, certificate: string, key: string]>> = {
  libvirt: [
    '/etc/pki/CA/cacert.pem',
    '/etc/pki/libvirt/servercert.pem',
    '/etc/pki/libvirt/private/serverkey.pem',
  ],
  migration: qemuPaths('/etc/pki/libvirt-migrate'),
  vnc: qemuPaths('/etc/pki/libvirt-vnc'),
  spice: qemuPaths('/etc/pki/libvirt-spice'),
  nbd: qemuPaths('/etc/pki/libvirt-nbd'),
  backup: qemuPaths('/etc/pki/libvirt-backup'),
};

function qemuPaths(directory: string): readonly [string, string, string] {
  return [`${directory}/ca-cert.pem`, `${directory}/server-cert.pem`, `${directory}/server-key.pem`];
}

// What certtool says of a set goes before its files, each ended by a line of its own.
const LOOK = `
look() {
  if [ -e "$1" ] && [ -e "$2" ] && [ -e "$3" ]; then
    certtool --verify --load-ca-certificate "$1" --infile "$2" 2>&1 | grep -o 'Verified\\. .*' || echo "certtool refuses $2"
    cat "$2"; echo @@@; cat "$3"
  elif [ -e "$1" ] || [ -e "$2" ] || [ -e "$3" ]; then echo "half a set: $(ls -L "$1" "$2" "$3" 2>&1)"
  else echo none; fi
  echo ===
}
${Object.values(PATHS)
  .map((paths) => `look ${paths.join(' ')}`)
  .join('\n')}
virsh -c qemu:///system version --daemon >/dev/null && systemctl is-active libvirtd-tls.socket
true`;

/** What a host serves: the fingerprint of each service's certificate on disk, and of the one that libvirtd shows. */
export interface ServedSets {
  readonly onDisk: Readonly<Record<Service, string | undefined>>;
  /** Undefined where libvirtd does not listen for TLS. */
  readonly shown: string | undefined;
}

/** Looks at a host and asserts that each service's files are one whole set or none, and that libvirtd runs. */
export async function servedSets(host: Host): Promise<ServedSets> {
  const said = (await host.run(['sh', '-c', LOOK])).split('===\n');
  const [libvirt = '', migration = '', vnc = '', spice = '', nbd = '', backup = '', socket = ''] = said;
  const onDisk = {
    libvirt: whole(libvirt),
    migration: whole(migration),
    vnc: whole(vnc),
    spice: whole(spice),
    nbd: whole(nbd),
    backup: whole(backup),
  };
  assert.match(socket, /^(?:in)?active/, 'libvirtd does not answer');
  const shown = socket.startsWith('active') ? await shownCertificate(host.address) : undefined;
  return { onDisk, shown };
}

/** The fingerprint of a set's certificate; undefined for none. */
function whole(said: string): string | undefined {
  if (said.trim() === 'none') return undefined;
  assert.match(said, /^Verified\. The certificate is trusted/);
  const [certificatePem = '', keyPem = ''] = said.slice(said.indexOf('\n') + 1).split('@@@\n');
  const certificate = new X509Certificate(certificatePem);
  assert.ok(certificate.checkPrivateKey(createPrivateKey(keyPem)), 'the key is not of the certificate');
  return certificate.fingerprint256;
}

/** The fingerprint of the certificate that a host's libvirtd shows in a handshake. */
async function shownCertificate(address: string): Promise<string> {
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const socket = connect({ host: address, port: 16514, rejectUnauthorized: false });
  socket.setTimeout(60_000, () => reject(new Error(`no handshake with ${address} within 60 s`)));
  socket.once('error', reject);
  socket.once('secureConnect', () =>
    resolve(socket.getPeerX509Certificate()?.fingerprint256 ?? 'no certificate'),
  );
  try {
    return await promise;
  } finally {
    socket.destroy();
  }
}
