import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { QemuProcess } from '@virt-trust/check/host/qemu-process.ts';
import { QEMU_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';
import type { AgentPaths } from '../state/paths.ts';

/** A device of a VM whose certificates on disk are newer than what it loaded. */
export interface StaleDevice {
  readonly vm: string;
  /** `vnc`: of a VM that arrives by migration. */
  readonly kind: 'chardev' | 'nbd' | 'vnc';
  readonly directory: string;
}

/** sysconf(3) CLK_TCK, which is 100 on every Linux that libvirt runs on. */
const TICKS_PER_SECOND = 100;

/** A disk over NBD is a client's, which reads no CRL: a new one every few days makes nothing stale. */
const READ_BY: Readonly<Record<StaleDevice['kind'], readonly string[]>> = {
  chardev: Object.values(QEMU_FILE_NAMES),
  vnc: Object.values(QEMU_FILE_NAMES),
  nbd: [QEMU_FILE_NAMES.caCertificate, QEMU_FILE_NAMES.clientCertificate, QEMU_FILE_NAMES.clientKey],
};

/** The devices of running VMs that loaded certificates from a directory whose files were changed since. */
export async function staleDevices(
  paths: AgentPaths,
  processes: readonly QemuProcess[],
  arriving: readonly QemuProcess[] = [],
): Promise<StaleDevice[]> {
  const consoles = arriving.map((one) => ({
    ...one,
    devices: one.vnc
      .flatMap(({ tlsDirectory }) => (tlsDirectory === null ? [] : [tlsDirectory]))
      .map((directory) => ({ kind: 'vnc' as const, directory })),
  }));
  const all = [...processes, ...consoles];
  if (all.every(({ devices }) => devices.length === 0)) return [];
  const booted = /^btime (\d{1,15})$/m.exec(await readFile(paths.at('/proc/stat'), 'utf8'))?.[1];
  const stale: StaleDevice[] = [];
  for (const { name, devices, startTicks } of all) {
    const startedMs = (Number(booted) + startTicks / TICKS_PER_SECOND) * 1000;
    for (const { kind, directory } of devices)
      if ((await changedAt(paths.at(directory), READ_BY[kind])) > startedMs)
        stale.push({ vm: name, kind, directory });
  }
  return stale;
}

/** When the newest of a directory's TLS files was changed; 0 where there are none. */
async function changedAt(directory: string, names: readonly string[]): Promise<number> {
  const times = await Promise.all(
    names.map((name) =>
      stat(join(directory, name)).then(
        ({ ctimeMs }) => ctimeMs,
        () => 0,
      ),
    ),
  );
  return Math.max(0, ...times);
}
