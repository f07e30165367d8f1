import type { Host } from './host.ts';

/** How an administrator had set hosts up before virt-trust came. */
export interface ForeignSetup {
  /** The old CA that signed for libvirt and QEMU, or plain TCP without authentication. */
  readonly libvirt: 'tls' | 'tcp';
  /** Whether QEMU's files are there too, in the default directory for all its services, with vnc_tls = 1. */
  readonly qemuTls: boolean;
  /**
   * Whether a CRL of the old CA is there too, at libvirt's and QEMU's default places. It names one client certificate of
   * each host, which is left in `REVOKED_CLIENT` as libvirt's `pkipath` and QEMU's directories want it.
   */
  readonly crl?: boolean;
}

/** Where a client certificate is that the old CA has revoked. */
export const REVOKED_CLIENT = '/root/revoked-client';

const ORGANIZATION = 'Old Administrator';
const VIRSH = 'qemu:///system';

/**
 * Makes hosts look as if somebody had run them before: one old CA for all (made on the first of them), files at
 * the default paths, listeners on, the daemon restarted. VMs keep running.
 */
export async function setUpAsFound(hosts: readonly Host[], setup: ForeignSetup): Promise<void> {
  const [first] = hosts;
  if (first === undefined) return;
  const authority = setup.libvirt === 'tls' || setup.qemuTls ? await makeAuthority(first) : undefined;
  for (const host of hosts) {
    if (authority !== undefined) await installFiles(host, authority, setup);
    if (setup.qemuTls) await append(host, '/etc/libvirt/qemu.conf', QEMU_CONF);
    const extra = setup.libvirt === 'tls' ? 'auth_tls = "none"' : 'auth_tcp = "none"';
    await append(host, '/etc/libvirt/libvirtd.conf', `# set by the old administrator\n${extra}\n`);
    // Sockets of libvirtd can be started only while the daemon itself is off.
    await host.run(['systemctl', 'stop', 'libvirtd.service']);
    await host.run(['systemctl', 'enable', '--now', `libvirtd-${setup.libvirt}.socket`]);
    await host.run(['systemctl', 'start', 'libvirtd.service']);
    await host.run(['virsh', '--connect', VIRSH, 'version']);
  }
}

const QEMU_CONF = `# set by the old administrator
default_tls_x509_cert_dir = "/etc/pki/qemu"
default_tls_x509_verify = 1
vnc_tls = 1
vnc_tls_x509_verify = 0
`;

interface Authority {
  readonly key: string;
  readonly certificate: string;
}

const CA_TEMPLATE = `cn = "Old Cluster CA"\norganization = "${ORGANIZATION}"\nca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 3650\n`;

async function makeAuthority(host: Host): Promise<Authority> {
  const key = await host.run(['certtool', '--generate-privkey', '--key-type', 'rsa', '--bits', '2048']);
  const script =
    'umask 077; d=$(mktemp -d) && cat >"$d/key" && certtool --generate-self-signed --load-privkey "$d/key" --template "$1"; code=$?; rm -r "$d"; exit $code';
  await host.writeFile('/run/old-ca.template', CA_TEMPLATE);
  const certificate = await host.run(['sh', '-c', script, 'sh', '/run/old-ca.template'], { input: key });
  return { key, certificate };
}

async function installFiles(host: Host, authority: Authority, setup: ForeignSetup): Promise<void> {
  await host.writeFile('/run/old-ca/ca.pem', authority.certificate, 0o600);
  await host.writeFile('/run/old-ca/ca.key', authority.key, 0o600);
  await host.writeFile('/run/old-ca/leaf.template', leafTemplate(host));
  if (setup.libvirt === 'tls') await host.run(['sh', '-c', LIBVIRT_FILES]);
  if (setup.qemuTls) await host.run(['sh', '-c', QEMU_FILES]);
  if (setup.crl === true) await host.run(['sh', '-c', CRL_FILES]);
  await host.run(['rm', '-r', '/run/old-ca']);
}

function leafTemplate(host: Host): string {
  const names = [
    `dns_name = "${host.name}"`,
    `ip_address = "${host.address}"`,
    `ip_address = "${host.address6}"`,
  ];
  const uses = ['tls_www_server', 'tls_www_client', 'encryption_key', 'signing_key', 'expiration_days = 365'];
  return [`cn = "${host.name}"`, `organization = "${ORGANIZATION}"`, ...names, ...uses, ''].join('\n');
}

const LEAF = `
set -eu; cd /run/old-ca; umask 077
certtool --generate-privkey --key-type rsa --bits 2048 --outfile leaf.key 2>/dev/null
certtool --generate-certificate --load-privkey leaf.key --load-ca-certificate ca.pem --load-ca-privkey ca.key \\
  --template leaf.template --outfile leaf.pem 2>/dev/null
`;

const LIBVIRT_FILES = `${LEAF}
install -D -m 0644 ca.pem /etc/pki/CA/cacert.pem
for side in server client; do
  install -D -m 0644 leaf.pem /etc/pki/libvirt/\${side}cert.pem
  install -D -m 0600 leaf.key /etc/pki/libvirt/private/\${side}key.pem
done
`;

const QEMU_FILES = `${LEAF}
install -d -m 0750 -g libvirt-qemu /etc/pki/qemu
install -m 0640 -g libvirt-qemu ca.pem /etc/pki/qemu/ca-cert.pem
for side in server client; do
  install -m 0640 -g libvirt-qemu leaf.pem /etc/pki/qemu/\${side}-cert.pem
  install -m 0640 -g libvirt-qemu leaf.key /etc/pki/qemu/\${side}-key.pem
done
`;

const CRL_FILES = `${LEAF}
printf 'crl_next_update = 30\ncrl_number = 1\n' >crl.template
certtool --generate-crl --load-ca-certificate ca.pem --load-ca-privkey ca.key --load-certificate leaf.pem \
  --template crl.template --outfile crl.pem 2>/dev/null
install -m 0644 crl.pem /etc/pki/CA/cacrl.pem
if test -d /etc/pki/qemu; then install -m 0640 -g libvirt-qemu crl.pem /etc/pki/qemu/ca-crl.pem; fi
for layout in cacert:clientcert:clientkey ca-cert:client-cert:client-key; do
  IFS=: read -r ca certificate key <<END
$layout
END
  install -D -m 0644 ca.pem ${REVOKED_CLIENT}/$ca.pem
  install -m 0644 leaf.pem ${REVOKED_CLIENT}/$certificate.pem
  install -m 0600 leaf.key ${REVOKED_CLIENT}/$key.pem
done
`;

async function append(host: Host, path: string, text: string): Promise<void> {
  await host.run(['sh', '-c', 'cat >>"$1"', 'sh', path], { input: `\n${text}` });
}
