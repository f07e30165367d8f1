import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { Configuration, ConfigurationValue } from '@virt-trust/libvirt/configuration.ts';
import type { RpcDaemon } from '@virt-trust/libvirt/libvirtd-settings.ts';
import { consoleEdits } from './console-settings.ts';
import { CONFIGURED_DIRECTORIES } from './layout.ts';

/** A change of one key of a configuration; `unset` lets libvirt's default hold. */
export type Edit =
  | { readonly kind: 'set'; readonly key: string; readonly value: ConfigurationValue }
  | { readonly kind: 'unset'; readonly key: string };

/** How the RPC daemon gets its listening sockets. */
export type Listening = 'systemd-sockets' | 'own-sockets';

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

/**
 * The configuration as it shall be: what stands there now, with our keys as they must be, and keys that were ours
 * and no longer are as they were found. All other lines stay, edits that somebody made meanwhile included.
 */
export function applyEdits(
  now: Configuration,
  found: Configuration,
  edits: readonly Edit[],
  ownKeys: readonly string[],
): void {
  const keys = new Set(edits.map(({ key }) => key));
  for (const key of ownKeys) if (!keys.has(key)) restoreKey(now, found, key);
  for (const edit of edits) {
    if (edit.kind === 'unset') now.unset(edit.key);
    else now.set(edit.key, edit.value);
  }
}

/** Gives a key back what was found; one that says that already is not touched. */
export function restoreKey(now: Configuration, found: Configuration, key: string): void {
  const valuesIn = (configuration: Configuration) =>
    JSON.stringify(
      configuration.entries().flatMap((entry) => (entry.key === key ? [String(entry.value)] : [])),
    );
  if (now.get(key) === undefined || valuesIn(now) !== valuesIn(found)) now.restore(key, found);
}

/** The keys that do not say what they must. */
export function unmetEdits(now: Configuration, edits: readonly Edit[]): string[] {
  return edits
    .filter((edit) => {
      const value = now.get(edit.key);
      return edit.kind === 'unset'
        ? value !== undefined
        : JSON.stringify(value) !== JSON.stringify(edit.value);
    })
    .map(({ key }) => key);
}
