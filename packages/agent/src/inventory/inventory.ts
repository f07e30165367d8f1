import { readFile } from 'node:fs/promises';
import { hostname, machine } from 'node:os';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { Accounts } from '@virt-trust/check/host/accounts.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { readDaemonMode, readProgramVersion } from '@virt-trust/check/host/libvirt-daemons.ts';
import { readQemuProcesses } from '@virt-trust/check/host/qemu-process.ts';
import { readListeningPorts } from '@virt-trust/check/host/sockets.ts';
import { lineOf } from '@virt-trust/check/host/text.ts';
import type { Inventory, RunningVm } from '@virt-trust/contract/model/inventory.ts';
import type { Firewall } from '../firewall/firewall.ts';
import type { AgentPaths } from '../state/paths.ts';
import { readInterfaces } from './interfaces.ts';
import { libvirtFacts, portsOf, type RunningLibvirt, readRunningLibvirt } from './libvirt.ts';
import { readLsm } from './lsm.ts';
import { readDistribution } from './os-release.ts';
import { type EffectiveSettings, readEffectiveSettings } from './settings.ts';
import { readConnections } from './sockets.ts';
import { readTlsFiles } from './tls-files.ts';

export interface InventoryParts {
  readonly paths: AgentPaths;
  readonly run: RunHostCommand;
  readonly firewall: Firewall;
  readonly clock: Clock;
  readonly log: Log;
}

/** What is on the host now. What can't be found out is left empty; nothing makes the whole fail. */
export async function takeInventory(parts: InventoryParts): Promise<Inventory> {
  const { paths, run, log } = parts;
  const attempt = async <T>(what: string, fallback: T, read: () => Promise<T>): Promise<T> => {
    try {
      return await read();
    } catch (error) {
      log.warn({ what, reason: describeError(error) }, 'inventory incomplete');
      return fallback;
    }
  };
  const accounts = new Accounts(run);
  const daemonMode = await attempt('libvirt', undefined, () => readDaemonMode(run));
  const settings = await readEffectiveSettings(paths, daemonMode ?? 'monolithic');
  const [
    running,
    processes,
    listening,
    tlsFiles,
    firewall,
    lsm,
    interfaces,
    distribution,
    machineId,
    connections,
  ] = await Promise.all([
    daemonMode === undefined
      ? undefined
      : attempt<RunningLibvirt | undefined>('libvirt', undefined, () => readRunningLibvirt(run)),
    attempt('virtual machines', [], () => readQemuProcesses(paths)),
    attempt('listening ports', new Set<number>(), () => readListeningPorts(run)),
    attempt('TLS files', [], () => readTlsFiles(paths, settings, accounts)),
    attempt<Inventory['firewall']>('firewall', 'open', () => parts.firewall.detect()),
    attempt<Inventory['lsm']>('security module', 'none', () => readLsm(paths)),
    attempt('interfaces', [], () => readInterfaces(run)),
    readDistribution(paths),
    attempt('machine id', '', () => readFile(paths.at('/etc/machine-id'), 'utf8')),
    attempt('connections', [], () => readConnections(run, portsOf(settings))),
  ]);
  const version =
    daemonMode === undefined
      ? undefined
      : (running?.version ??
        (await attempt('libvirt', undefined, () =>
          readProgramVersion(run, ['libvirtd', 'virtqemud', 'virsh']),
        )));
  return {
    takenAt: parts.clock.now(),
    hostName: lineOf(hostname()),
    machineId: lineOf(machineId),
    distribution,
    architecture: lineOf(machine()),
    libvirt:
      daemonMode === undefined || version === undefined
        ? null
        : libvirtFacts({ daemonMode, version, running, settings, listening, runningVms: processes.length }),
    qemu: await attempt('QEMU', null, () => readQemu(run, running, settings, accounts)),
    lsm,
    firewall,
    interfaces,
    runningVms: processes.map(({ verifiesVncClients: _, devices: __, vnc, spice, ...process }) => ({
      ...process,
      vnc: vnc.map(({ clients: ___, ...display }) => display),
      spice: spice.map(({ clients: ___, ...display }) => display),
      state: stateOf(process.uuid, running),
    })),
    tlsFiles,
    settings: settings.found,
    connections,
  };
}

function stateOf(uuid: string, running: RunningLibvirt | undefined): RunningVm['state'] {
  if (running === undefined) return 'unknown';
  return running.pausedVms.has(uuid) ? 'paused' : 'running';
}

async function readQemu(
  run: RunHostCommand,
  running: RunningLibvirt | undefined,
  settings: EffectiveSettings,
  accounts: Accounts,
): Promise<Inventory['qemu']> {
  const programs = [`qemu-system-${machine()}`, 'qemu-kvm'];
  const version = running?.qemuVersion ?? (await readProgramVersion(run, programs));
  if (version === undefined) return null;
  const ids = running?.capabilities.qemu;
  const user = ids === undefined ? undefined : await accounts.name('passwd', ids.uid);
  const group = ids === undefined ? undefined : await accounts.name('group', ids.gid);
  return {
    version,
    user: lineOf(
      user ?? settings.qemu.user ?? (await usualAccount(accounts, 'passwd', ['libvirt-qemu', 'qemu'])),
    ),
    group: lineOf(
      group ??
        settings.qemu.group ??
        (await usualAccount(accounts, 'group', ['libvirt-qemu', 'qemu', 'kvm'])),
    ),
  };
}

/** The account that Debian's or Red Hat's package makes. */
async function usualAccount(
  accounts: Accounts,
  database: 'passwd' | 'group',
  names: readonly string[],
): Promise<string> {
  for (const name of names) if ((await accounts.name(database, name)) !== undefined) return name;
  return 'root';
}
