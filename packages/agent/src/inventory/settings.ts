import { readFile, stat } from 'node:fs/promises';
import { lineOf } from '@virt-trust/check/host/text.ts';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import { type Configuration, parseConfiguration } from '@virt-trust/libvirt/configuration.ts';
import { encodeConfigurationValue } from '@virt-trust/libvirt/configuration-syntax.ts';
import { QEMU_SERVICE_DIRECTORIES } from '@virt-trust/libvirt/layout.ts';
import { type LibvirtdSettings, readLibvirtdSettings } from '@virt-trust/libvirt/libvirtd-settings.ts';
import { type QemuSettings, readQemuSettings } from '@virt-trust/libvirt/qemu-settings.ts';
import type { AgentPaths } from '../state/paths.ts';

type DaemonMode = NonNullable<Inventory['libvirt']>['daemonMode'];
type Setting = Inventory['settings'][number];

/** What libvirt's configuration files make of TLS. */
export interface EffectiveSettings {
  readonly libvirtd: LibvirtdSettings;
  readonly qemu: QemuSettings;
  /** The settings that bear on TLS, as they stand in the files. */
  readonly found: Setting[];
}

/** Settings that bear on TLS, access or QEMU's user. */
const RELEVANT =
  /tls|^listen_|^auth_|^(?:ca|cert|key|crl)_files?$|sasl|^vnc_listen$|^migration_|^(?:user|group|security_driver|host_uuid|tcp_port)$/;
/** SECURITY: qemu.conf may hold VNC's and SPICE's passwords and the password of a key; they stay on the host. */
const SECRET = /password|secret/;
const MAX_SETTINGS = 512;

/** Reads libvirtd.conf (virtproxyd.conf) and qemu.conf; a file that libvirt would refuse counts as empty. */
export async function readEffectiveSettings(paths: AgentPaths, mode: DaemonMode): Promise<EffectiveSettings> {
  const daemon = mode === 'modular' ? 'virtproxyd' : 'libvirtd';
  const daemonFile = `/etc/libvirt/${daemon}.conf`;
  const [daemonConf, qemuConf, existing] = await Promise.all([
    readConfigurationFile(paths, daemonFile),
    readConfigurationFile(paths, '/etc/libvirt/qemu.conf'),
    existingDirectories(paths),
  ]);
  const empty = parseConfiguration('');
  const exists = (path: string) => existing.has(path);
  return {
    libvirtd: orElse(
      () => readLibvirtdSettings(daemonConf, daemon),
      () => readLibvirtdSettings(empty, daemon),
    ),
    qemu: orElse(
      () => readQemuSettings(qemuConf, exists),
      () => readQemuSettings(empty, exists),
    ),
    found: [...settingsOf(daemonConf), ...settingsOf(qemuConf)].slice(0, MAX_SETTINGS),
  };
}

async function readConfigurationFile(paths: AgentPaths, file: string): Promise<Configuration> {
  try {
    return parseConfiguration(await readFile(paths.at(file)), file);
  } catch {
    return parseConfiguration('', file);
  }
}

async function existingDirectories(paths: AgentPaths): Promise<Set<string>> {
  const existing = new Set<string>();
  for (const path of Object.values(QEMU_SERVICE_DIRECTORIES)) {
    const found = await stat(paths.at(path)).catch(() => undefined);
    if (found?.isDirectory()) existing.add(path);
  }
  return existing;
}

function settingsOf(configuration: Configuration): Setting[] {
  return configuration
    .entries()
    .filter(({ key }) => RELEVANT.test(key) && !SECRET.test(key))
    .map(({ key, value }) => ({
      file: configuration.file,
      key: lineOf(key),
      value: encodeConfigurationValue(value).slice(0, 4096),
    }));
}

function orElse<T>(read: () => T, fallback: () => T): T {
  try {
    return read();
  } catch {
    return fallback();
  }
}
