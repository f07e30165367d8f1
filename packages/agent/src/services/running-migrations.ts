import { watch } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { readFileIfPresent } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';

/** A live migration that libvirt works on here, whoever began it. */
export interface RunningMigration {
  readonly vm: string;
  readonly direction: 'incoming' | 'outgoing';
}

/** Where libvirtd and virtqemud keep the state of running VMs, a file for each, replaced at each change. */
const STATE_DIRECTORY = '/run/libvirt/qemu';
const STATE_FILE = /^([^/]{1,250})\.xml$/;
const LIMIT = 4 * 1024 * 1024;
/** A change that no event tells of is seen after this. */
const LOOK_AGAIN_MS = 5000;
/** libvirt writes a VM's state several times while a migration ends. */
const QUIET_MS = 200;

/** The migrations on this host, as libvirt itself keeps them; none where no libvirt daemon runs that could be cut off. */
export async function readRunningMigrations(
  paths: AgentPaths,
  run: RunHostCommand,
): Promise<RunningMigration[]> {
  const directory = paths.at(STATE_DIRECTORY);
  const names = await readdir(directory).catch((): string[] => []);
  const found: RunningMigration[] = [];
  for (const name of names.toSorted()) {
    const vm = STATE_FILE.exec(name)?.[1];
    if (vm === undefined) continue;
    const bytes = await readFileIfPresent(join(directory, name)).catch(() => undefined);
    const direction =
      bytes === undefined ? undefined : parseMigrationJob(bytes.subarray(0, LIMIT).toString());
    if (direction !== undefined) found.push({ vm, direction });
  }
  if (found.length === 0) return [];
  // What a daemon that died left written holds nobody up: the next one ends it by itself.
  const { stdout } = await run('ps', ['-C', 'libvirtd,virtqemud', '-o', 'pid='], { acceptedCodes: [1] });
  return stdout.trim() === '' ? [] : found;
}

/**
 * Which way a VM migrates, out of libvirt's state of it (`<domstatus>`); undefined where it does not, or where
 * post-copy failed, which libvirt keeps over a restart and which ends when a person resumes it.
 */
export function parseMigrationJob(status: string): RunningMigration['direction'] | undefined {
  // The job stands before the definition, whose words are the VM's owner's.
  const definition = /<domain[\s>]/.exec(status)?.index ?? status.length;
  const job = /<job\s[^>]{0,1000}>/.exec(status.slice(0, definition))?.[0] ?? '';
  const direction = /\sasync='migration (in|out)'/.exec(job)?.[1];
  if (direction === undefined || /\sphase='postcopy_failed'/.test(job)) return undefined;
  return direction === 'in' ? 'incoming' : 'outgoing';
}

/**
 * VMs that run here, and those that still arrive: libvirt lets nobody at an arriving VM's QEMU, which serves what it
 * loaded when it was started.
 */
export async function arrived<Vm extends { readonly name: string }>(
  paths: AgentPaths,
  run: RunHostCommand,
  vms: readonly Vm[],
): Promise<{ here: Vm[]; arriving: Vm[] }> {
  const migrations = vms.length === 0 ? [] : await readRunningMigrations(paths, run);
  const incoming = new Set(
    migrations.filter(({ direction }) => direction === 'incoming').map(({ vm }) => vm),
  );
  return {
    here: vms.filter(({ name }) => !incoming.has(name)),
    arriving: vms.filter(({ name }) => incoming.has(name)),
  };
}

/** Resolves at the next change of any VM's state, or after a few seconds, or when `signal` is aborted. */
export async function nextVmChange(paths: AgentPaths, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timers = [setTimeout(resolve, LOOK_AGAIN_MS)];
  const done = () => resolve();
  signal.addEventListener('abort', done, { once: true });
  try {
    // The kernel may have no watch left to give: then looking again must do.
    const watcher = watch(paths.at(STATE_DIRECTORY), { persistent: false }, () => {
      timers.push(setTimeout(resolve, QUIET_MS));
      watcher.close();
    });
    watcher.on('error', () => watcher.close());
    await promise;
    watcher.close();
  } catch {
    await promise;
  } finally {
    signal.removeEventListener('abort', done);
    for (const timer of timers) clearTimeout(timer);
  }
}
