import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { Configuration, ConfigurationValue } from '@virt-trust/libvirt/configuration.ts';
import type { RpcDaemon } from '@virt-trust/libvirt/libvirtd-settings.ts';
import type { Edit } from './configuration-edits.ts';
import { consoleEdits } from './console-settings.ts';
import { CONFIGURED_DIRECTORIES } from './layout.ts';

/** How the RPC daemon gets its listening sockets. */
export type Listening = 'systemd-sockets' | 'own-sockets';

/** What libvirtd.conf or virtproxyd.conf needs of the host. */
export interface RpcContext {
  readonly daemon: RpcDaemon;
  readonly listening: Listening;
}

/** What qemu.conf needs of the host. */
export interface QemuContext {
  /** Whether the kernel has IPv6. */
  readonly ipv6: boolean;
}

/**
 * What libvirtd.conf or virtproxyd.conf must say, given what it said when it was found; keys that are right by
 * themselves are not touched.
 */
export function rpcEdits(desired: DesiredState, found: Configuration, context: RpcContext): Edit[] {
  if (!desired.credentials.some(({ service }) => service === 'libvirt')) return [];
  const { plainTcp, clientDns } = desired.settings;
  const edits: Edit[] = [];
  const set = (key: string, value: ConfigurationValue) => edits.push({ kind: 'set', key, value });
  // server-update-tls reads the default paths whatever these say.
  for (const key of ['ca_file', 'cert_file', 'key_file', 'crl_file', 'cert_files', 'key_files'])
    if (found.get(key) !== undefined) edits.push({ kind: 'unset', key });
  set('tls_no_sanity_certificate', 1);
  if (found.get('auth_tls') === undefined) set('auth_tls', 'none');
  if (context.listening === 'own-sockets') {
    set('listen_tls', 1);
    if (plainTcp === 'off' && found.get('listen_tcp') === 1) set('listen_tcp', 0);
  }
  const allowed = found.get('tls_allowed_dn_list');
  if (typeof allowed === 'object') {
    const missing = clientDns.filter((dn) => !allowed.includes(dn));
    if (missing.length > 0) set('tls_allowed_dn_list', [...allowed, ...missing]);
  }
  return edits;
}

/** What qemu.conf must say, given what it said when it was found. */
export function qemuEdits(desired: DesiredState, found: Configuration, { ipv6 }: QemuContext): Edit[] {
  const edits: Edit[] = [];
  const set = (key: string, value: ConfigurationValue) => edits.push({ kind: 'set', key, value });
  const { vncTls, spiceTls, migrateTls, migrationHost } = desired.settings;
  // Where migrations go that others set up is their word.
  if (migrationHost !== null && found.get('migration_host') === undefined)
    set('migration_host', migrationHost);
  for (const { service, identity } of desired.credentials) {
    if (service === 'libvirt') continue;
    const prefix = service === 'migration' ? 'migrate' : service;
    set(`${prefix}_tls_x509_cert_dir`, CONFIGURED_DIRECTORIES[service]);
    // A key of ours has no password.
    const secret = `${prefix}_tls_x509_secret_uuid`;
    if (service !== 'spice' && identity === 'ours' && found.get(secret) !== undefined)
      edits.push({ kind: 'unset', key: secret });
    if (service === 'migration') {
      set('migrate_tls_x509_verify', 1);
      if (migrateTls === 'force') set('migrate_tls_force', 1);
    }
    // Whoever pulls backups with what was found goes on as found.
    if (service === 'backup' && identity === 'ours') set('backup_tls_x509_verify', 1);
    if (service === 'vnc' && vncTls === 'on') set('vnc_tls', 1);
    if (service === 'spice' && spiceTls === 'on') set('spice_tls', 1);
  }
  // Without a certificate of theirs displays have no TLS to leave loopback with.
  const displays = desired.credentials.some(({ service }) => service === 'vnc' || service === 'spice');
  const consoles = displays ? consoleEdits(desired.settings.consoles, found, ipv6) : [];
  const said = new Set(consoles.map(({ key }) => key));
  return [...edits.filter(({ key }) => !said.has(key)), ...consoles];
}
