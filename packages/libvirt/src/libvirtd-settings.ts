import type { Configuration } from './configuration.ts';
import { ConfigurationReader } from './configuration-reader.ts';
import { LIBVIRT_SYSTEM_FILES, LIBVIRT_TCP_PORT, LIBVIRT_TLS_PORT } from './layout.ts';

/** The daemon that serves libvirt's RPC to the network: the monolithic one or that of the modular ones. */
export type RpcDaemon = 'libvirtd' | 'virtproxyd';

/** A certificate with its key, by path. */
interface IdentityFiles {
  readonly certificate: string;
  readonly key: string;
}

/** The TLS and network settings that hold for libvirtd or virtproxyd, defaults filled in. */
export interface LibvirtdSettings {
  /** Honoured by libvirtd only with `--listen`, by either daemon only without systemd's sockets. */
  readonly listenTls: boolean;
  readonly listenTcp: boolean;
  /** A number or a service name, as configured. */
  readonly tlsPort: string;
  readonly tcpPort: string;
  readonly listenAddr: string | undefined;
  readonly authTls: string;
  readonly authTcp: string;
  readonly files: LibvirtdFiles;
  /** No list: every DN may connect. An empty one: nobody. */
  readonly tlsAllowedDnList: readonly string[] | undefined;
  readonly saslAllowedUsernameList: readonly string[] | undefined;
  readonly tlsPriority: string | undefined;
  readonly tlsNoSanityCertificate: boolean;
  readonly tlsNoVerifyCertificate: boolean;
  readonly hostUuid: string | undefined;
}

/** The files that the daemon reads at its start; `server-update-tls` always reads the default paths. */
type LibvirtdFiles =
  | {
      readonly kind: 'default';
      readonly caCertificate: string;
      /** Loaded if it exists. */
      readonly crl: string;
      readonly identities: readonly IdentityFiles[];
    }
  | {
      readonly kind: 'explicit';
      readonly caCertificate: string | undefined;
      readonly crl: string | undefined;
      readonly identities: readonly IdentityFiles[];
      /** Settings without which the daemon refuses to start, of `ca_file`, `cert_file`, `key_file`. */
      readonly missing: readonly string[];
    };

/** What libvirtd.conf or virtproxyd.conf sets; throws `configuration.wrong_type`. */
export function readLibvirtdSettings(
  configuration: Configuration,
  daemon: RpcDaemon = 'libvirtd',
): LibvirtdSettings {
  const read = new ConfigurationReader(configuration);
  return {
    listenTls: read.boolean('listen_tls') ?? daemon === 'libvirtd',
    listenTcp: read.boolean('listen_tcp') ?? false,
    tlsPort: read.string('tls_port') ?? String(LIBVIRT_TLS_PORT),
    tcpPort: read.string('tcp_port') ?? String(LIBVIRT_TCP_PORT),
    listenAddr: read.string('listen_addr'),
    authTls: read.string('auth_tls') ?? 'none',
    authTcp: read.string('auth_tcp') ?? 'sasl',
    files: readFiles(read),
    tlsAllowedDnList: read.strings('tls_allowed_dn_list'),
    saslAllowedUsernameList: read.strings('sasl_allowed_username_list'),
    tlsPriority: read.string('tls_priority'),
    tlsNoSanityCertificate: read.boolean('tls_no_sanity_certificate') ?? false,
    tlsNoVerifyCertificate: read.boolean('tls_no_verify_certificate') ?? false,
    hostUuid: read.string('host_uuid'),
  };
}

function readFiles(read: ConfigurationReader): LibvirtdFiles {
  const caCertificate = read.string('ca_file');
  const crl = read.string('crl_file');
  const certificate = read.string('cert_file');
  const key = read.string('key_file');
  // libvirt >= 11.10 takes several identities instead of the one.
  const certificates = certificate === undefined ? (read.strings('cert_files') ?? []) : [certificate];
  const keys = key === undefined ? (read.strings('key_files') ?? []) : [key];
  if (caCertificate === undefined && certificates.length === 0 && keys.length === 0) {
    const { serverCertificate, serverKey } = LIBVIRT_SYSTEM_FILES;
    return {
      kind: 'default',
      caCertificate: LIBVIRT_SYSTEM_FILES.caCertificate,
      crl: LIBVIRT_SYSTEM_FILES.crl,
      identities: [{ certificate: serverCertificate, key: serverKey }],
    };
  }
  const identities = certificates.flatMap((path, index) => {
    const own = keys[index];
    return own === undefined ? [] : [{ certificate: path, key: own }];
  });
  const missing = [
    ...(caCertificate === undefined ? ['ca_file'] : []),
    ...(certificates.length === 0 || certificates.length < keys.length ? ['cert_file'] : []),
    ...(keys.length === 0 || keys.length < certificates.length ? ['key_file'] : []),
  ];
  return { kind: 'explicit', caCertificate, crl, identities, missing };
}
