import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { TrustError } from '@virt-trust/base/error.ts';
import { which } from '@virt-trust/check/host/host-command.ts';

/** Looks out for clients of a VM's display that have authenticated themselves. */
export interface VisitWatch {
  /** Resolves true once one came in, false when the time was over, the VM gone or libvirt away. */
  readonly visited: Promise<boolean>;
  stop(): void;
}

/** Begins to look out for so many seconds, and resolves when no visit can escape any more. */
export type WatchVisits = (
  vm: { readonly uuid: string; readonly name: string },
  ports: readonly number[],
  seconds: number,
) => Promise<VisitWatch>;

const READY = 'virt-trust-watches';
const READY_MS = 20_000;

/** Looks out with libvirt's own events: `initialize` comes once QEMU has authenticated a client. */
export const watchVisits: WatchVisits = async ({ uuid, name }, ports, seconds) => {
  const virsh = await which('virsh');
  if (virsh === undefined)
    throw new TrustError('command.missing', 'not-found', 'cannot run virsh: it is not installed', {
      hint: 'install the package that holds virsh (Debian: libvirt-clients)',
    });
  // virsh says so once it is connected; the subscription goes out in the same moment.
  const commands = `echo ${READY}; event --domain ${uuid} --event graphics --loop --timeout ${Math.ceil(seconds)}`;
  const child = spawn(virsh, ['-c', 'qemu:///system', commands], {
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C', HOME: '/' },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const ready = Promise.withResolvers<void>();
  const visited = Promise.withResolvers<boolean>();
  const timer = setTimeout(() => child.kill(), READY_MS);
  const end = () => {
    clearTimeout(timer);
    ready.reject(
      new TrustError(
        'console.not_watched',
        'unavailable',
        `cannot watch the displays of ${name}: virsh ended`,
        {
          hint: 'see that libvirt answers on this host: virsh list',
        },
      ),
    );
    visited.resolve(false);
  };
  child.once('error', end);
  child.once('close', end);
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (line.trim() === READY) {
      clearTimeout(timer);
      ready.resolve();
    }
    if (isVisit(line, name, ports)) visited.resolve(true);
  });
  await ready.promise;
  return { visited: visited.promise, stop: () => child.kill() };
};

/**
 * Whether a line of `virsh event` tells of a client that came in at one of the ports:
 * `event 'graphics' for domain 'guest': initialize local[IPv6 :: 5900] remote[...] vnc`.
 */
export function isVisit(line: string, vm: string, ports: readonly number[]): boolean {
  const start = `event 'graphics' for domain '${vm}': initialize local[`;
  if (!line.startsWith(start)) return false;
  const port = /^\S+ \S+ (\d{1,5})\] remote\[/.exec(line.slice(start.length))?.[1];
  return ports.includes(Number(port));
}
