import { readFile, stat } from 'node:fs/promises';
import { homedir } from 'node:os';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Checker } from '@virt-trust/libvirt/checker.ts';
import { type Configuration, parseConfiguration } from '@virt-trust/libvirt/configuration.ts';
import { QEMU_SERVICE_DIRECTORIES } from '@virt-trust/libvirt/layout.ts';
import {
  type LibvirtdSettings,
  type RpcDaemon,
  readLibvirtdSettings,
} from '@virt-trust/libvirt/libvirtd-settings.ts';
import { type QemuSettings, readQemuSettings } from '@virt-trust/libvirt/qemu-settings.ts';
import { runHostCommand } from './host/host-command.ts';
import { type DaemonMode, readDaemonMode } from './host/libvirt-daemons.ts';
import { wholeSeconds } from './path-check.ts';
import { readQemuUser } from './qemu-user.ts';
import type { ReadingUser } from './reader.ts';
import type { CheckFinding } from './report.ts';
import { installedVersion } from './versions.ts';

/** What a check of this host goes by. */
export interface HostFacts {
  readonly at: Instant;
  readonly isRoot: boolean;
  /** A user's own; null for root, who has no files of his own with libvirt. */
  readonly home: string | null;
  readonly mode: DaemonMode | undefined;
  readonly daemon: RpcDaemon;
  readonly daemonFile: string;
  readonly libvirt: Checker;
  readonly qemu: Checker;
  readonly libvirtd: LibvirtdSettings;
  readonly qemuSettings: QemuSettings;
  readonly qemuUser: ReadingUser | undefined;
  /** What is wrong with the configuration files themselves. */
  readonly findings: readonly CheckFinding[];
  readonly notes: readonly string[];
}

/** Reads this host's versions and effective configuration. */
export async function readHostFacts(options: {
  readonly at: Instant;
  readonly libvirt?: string | undefined;
  readonly qemu?: string | undefined;
}): Promise<HostFacts> {
  const notes: string[] = [];
  const findings: CheckFinding[] = [];
  const mode = await readDaemonMode(runHostCommand).catch(() => undefined);
  const [installedLibvirt, installedQemu] = await Promise.all([
    installedVersion('libvirt'),
    installedVersion('qemu'),
  ]);
  if (mode === undefined)
    notes.push('no libvirt daemon is installed here: only what a client uses is checked');
  const daemon: RpcDaemon = mode === 'modular' ? 'virtproxyd' : 'libvirtd';
  const daemonFile = `/etc/libvirt/${daemon}.conf`;
  const [daemonConf, qemuConf] = await Promise.all([
    readConfiguration(daemonFile, findings, notes),
    readConfiguration('/etc/libvirt/qemu.conf', findings, notes),
  ]);
  const existing = new Set<string>();
  for (const path of Object.values(QEMU_SERVICE_DIRECTORIES)) {
    if ((await stat(path).catch(() => undefined))?.isDirectory()) existing.add(path);
  }
  const exists = (path: string) => existing.has(path);
  const empty = parseConfiguration('');
  const libvirtd =
    reading(daemonFile, findings, () => readLibvirtdSettings(daemonConf, daemon)) ??
    readLibvirtdSettings(empty, daemon);
  const qemuSettings =
    reading('/etc/libvirt/qemu.conf', findings, () => readQemuSettings(qemuConf, exists)) ??
    readQemuSettings(empty, exists);
  const isRoot = process.getuid?.() === 0;
  if (!isRoot) notes.push('run as a user: what only root may read, keys above all, could not be judged');
  return {
    at: wholeSeconds(options.at),
    isRoot,
    home: isRoot ? null : homedir(),
    mode,
    daemon,
    daemonFile,
    libvirt: { program: 'libvirt', version: options.libvirt ?? installedLibvirt ?? '9.0.0' },
    qemu: { program: 'qemu', version: options.qemu ?? installedQemu ?? '7.2.22' },
    libvirtd,
    qemuSettings,
    qemuUser: await readQemuUser(qemuSettings.user, qemuSettings.group),
    findings,
    notes,
  };
}

const CONFIGURATION_LIMIT = 4 << 20;

async function readConfiguration(
  file: string,
  findings: CheckFinding[],
  notes: string[],
): Promise<Configuration> {
  let bytes: Buffer;
  try {
    if ((await stat(file)).size > CONFIGURATION_LIMIT)
      throw Object.assign(new Error('too large'), { code: 'EFBIG' });
    bytes = await readFile(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code !== 'ENOENT') notes.push(`${file} could not be read (${code}): its defaults are taken`);
    return parseConfiguration('', file);
  }
  return reading(file, findings, () => parseConfiguration(bytes, file)) ?? parseConfiguration('', file);
}

function reading<T>(file: string, findings: CheckFinding[], read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (!isTrustError(error)) throw error;
    findings.push({
      severity: 'error',
      code: error.code,
      file,
      text: `${error.message}; the daemon does not start with it`,
      remedy: error.hint ?? `mend ${file}`,
    });
    return undefined;
  }
}
