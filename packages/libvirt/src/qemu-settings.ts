import type { Configuration } from './configuration.ts';
import { ConfigurationReader } from './configuration-reader.ts';
import {
  DISPLAY_PORT_MIN,
  MIGRATION_PORTS,
  QEMU_DEFAULT_DIRECTORY,
  QEMU_SERVICE_DIRECTORIES,
  type QemuTlsService,
} from './layout.ts';

/** How one service of QEMU uses TLS. */
interface QemuServiceSettings {
  /** Where the directory comes from, by libvirt's rule. */
  readonly origin: 'explicit' | 'service-default' | 'default-explicit' | 'default';
  readonly directory: string;
  /** `X_tls`; migration and backup have no such switch, a job asks for TLS. */
  readonly tls: boolean | undefined;
  /** Whether clients need a certificate; SPICE never asks, NBD is a client here. */
  readonly verify: boolean | undefined;
}

/** The TLS, network and user settings of qemu.conf that hold, defaults filled in. */
export interface QemuSettings {
  readonly services: Readonly<Record<QemuTlsService, QemuServiceSettings>>;
  readonly migrateTlsForce: boolean;
  readonly migrationAddress: string | undefined;
  readonly migrationHost: string | undefined;
  readonly migrationPortMin: number;
  readonly migrationPortMax: number;
  readonly vncListen: string;
  readonly spiceListen: string;
  readonly remoteDisplayPortMin: number;
  readonly remoteDisplayPortMax: number;
  /** No value: the distribution's, which the capabilities' `dac` baselabel tells. */
  readonly user: string | undefined;
  readonly group: string | undefined;
  readonly securityDriver: readonly string[] | undefined;
}

const SERVICES: readonly QemuTlsService[] = ['vnc', 'spice', 'chardev', 'migrate', 'nbd', 'backup'];
const WITH_SWITCH: readonly QemuTlsService[] = ['vnc', 'spice', 'chardev', 'nbd'];
const VERIFY_DEFAULTS: Partial<Record<QemuTlsService, boolean>> = {
  vnc: false,
  chardev: true,
  migrate: true,
  backup: true,
};

/**
 * What qemu.conf sets. `directoryExists` tells of the default directories (`/etc/pki/libvirt-X`) which exist, or
 * existed when the daemon started; throws `configuration.wrong_type`.
 */
export function readQemuSettings(
  configuration: Configuration,
  directoryExists: (path: string) => boolean,
): QemuSettings {
  const read = new ConfigurationReader(configuration);
  const services = Object.fromEntries(
    SERVICES.map((service) => [service, readService(service, read, directoryExists)]),
  ) as Record<QemuTlsService, QemuServiceSettings>;
  return {
    services,
    migrateTlsForce: read.boolean('migrate_tls_force') ?? false,
    migrationAddress: read.string('migration_address'),
    migrationHost: read.string('migration_host'),
    migrationPortMin: read.integer('migration_port_min') ?? MIGRATION_PORTS.min,
    migrationPortMax: read.integer('migration_port_max') ?? MIGRATION_PORTS.max,
    vncListen: read.string('vnc_listen') ?? '127.0.0.1',
    spiceListen: read.string('spice_listen') ?? '127.0.0.1',
    remoteDisplayPortMin: read.integer('remote_display_port_min') ?? DISPLAY_PORT_MIN,
    remoteDisplayPortMax: read.integer('remote_display_port_max') ?? 65535,
    user: read.string('user'),
    group: read.string('group'),
    securityDriver: read.strings('security_driver', true),
  };
}

function readService(
  service: QemuTlsService,
  read: ConfigurationReader,
  directoryExists: (path: string) => boolean,
): QemuServiceSettings {
  const builtIn = VERIFY_DEFAULTS[service];
  const verify =
    builtIn === undefined
      ? undefined
      : (read.boolean(`${service}_tls_x509_verify`) ?? read.boolean('default_tls_x509_verify') ?? builtIn);
  const tls = WITH_SWITCH.includes(service) ? (read.boolean(`${service}_tls`) ?? false) : undefined;
  return { ...chooseDirectory(service, read, directoryExists), tls, verify };
}

function chooseDirectory(
  service: QemuTlsService,
  read: ConfigurationReader,
  directoryExists: (path: string) => boolean,
): Pick<QemuServiceSettings, 'origin' | 'directory'> {
  const explicit = read.string(`${service}_tls_x509_cert_dir`);
  if (explicit !== undefined) return { origin: 'explicit', directory: explicit };
  const own = QEMU_SERVICE_DIRECTORIES[service];
  if (directoryExists(own)) return { origin: 'service-default', directory: own };
  const common = read.string('default_tls_x509_cert_dir');
  if (common !== undefined) return { origin: 'default-explicit', directory: common };
  return { origin: 'default', directory: QEMU_DEFAULT_DIRECTORY };
}
