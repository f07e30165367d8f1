/** The port of libvirt's RPC without TLS (libvirtd.conf `tcp_port`). */
export const LIBVIRT_TCP_PORT = 16509;
/** The port of libvirt's RPC over TLS (libvirtd.conf `tls_port`). */
export const LIBVIRT_TLS_PORT = 16514;
/** The ports that migrations listen on, both included (qemu.conf `migration_port_min`, `migration_port_max`). */
export const MIGRATION_PORTS = { min: 49152, max: 49215 } as const;
/** The port of the first VNC or SPICE display (qemu.conf `remote_display_port_min`). */
export const DISPLAY_PORT_MIN = 5900;

/** libvirt's identity and trust on a system (remote driver: `LIBVIRT_CACERT` and its neighbours). */
export const LIBVIRT_SYSTEM_FILES = {
  caCertificate: '/etc/pki/CA/cacert.pem',
  crl: '/etc/pki/CA/cacrl.pem',
  serverCertificate: '/etc/pki/libvirt/servercert.pem',
  serverKey: '/etc/pki/libvirt/private/serverkey.pem',
  clientCertificate: '/etc/pki/libvirt/clientcert.pem',
  clientKey: '/etc/pki/libvirt/private/clientkey.pem',
} as const;

/** File names in the directory of a URI's `pkipath` parameter. */
export const PKIPATH_FILE_NAMES = {
  caCertificate: 'cacert.pem',
  crl: 'cacrl.pem',
  clientCertificate: 'clientcert.pem',
  clientKey: 'clientkey.pem',
} as const;

/** File names in a QEMU TLS directory (QEMU's `tls-creds-x509` object, property `dir`). */
export const QEMU_FILE_NAMES = {
  caCertificate: 'ca-cert.pem',
  crl: 'ca-crl.pem',
  serverCertificate: 'server-cert.pem',
  serverKey: 'server-key.pem',
  clientCertificate: 'client-cert.pem',
  clientKey: 'client-key.pem',
  dhParameters: 'dh-params.pem',
} as const;

/** What QEMU serves or uses TLS for, as qemu.conf's setting names begin. */
export type QemuTlsService = 'vnc' | 'spice' | 'chardev' | 'migrate' | 'nbd' | 'backup';

/** The directory of a service that is used where qemu.conf names none and it exists when the daemon starts. */
export const QEMU_SERVICE_DIRECTORIES: Readonly<Record<QemuTlsService, string>> = {
  vnc: '/etc/pki/libvirt-vnc',
  spice: '/etc/pki/libvirt-spice',
  chardev: '/etc/pki/libvirt-chardev',
  migrate: '/etc/pki/libvirt-migrate',
  nbd: '/etc/pki/libvirt-nbd',
  backup: '/etc/pki/libvirt-backup',
};

/** The directory of every service that has none of its own (qemu.conf `default_tls_x509_cert_dir`). */
export const QEMU_DEFAULT_DIRECTORY = '/etc/pki/qemu';
