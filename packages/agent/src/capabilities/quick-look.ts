import { createHash } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { Watched } from '../served/rounds.ts';
import type { AgentPaths } from '../state/paths.ts';
import { readListeners } from './listeners.ts';
import { PLACES, QEMU_CONFIGURATION } from './look.ts';
import { migrationFiles } from './native-tls.ts';

const CONFIGURATIONS = [QEMU_CONFIGURATION, PLACES.monolithic.rpc, PLACES.modular.rpc];
const PID_FILES = [PLACES.monolithic.rpcPid, PLACES.modular.rpcPid, PLACES.modular.qemuPid];
const SOCKETS = [PLACES.monolithic.socket, PLACES.modular.socket];

/**
 * A digest of all that capabilities follow from, at the price of one small program: where it is as before, there is
 * nothing to look at. A daemon that idles out is no change, since its socket starts it again.
 */
export class QuickLook {
  readonly #paths: AgentPaths;
  readonly #run: RunHostCommand;
  readonly #daemons = new Map<string, string>();

  constructor(paths: AgentPaths, run: RunHostCommand) {
    this.#paths = paths;
    this.#run = run;
  }

  /** `directory` is where QEMU's files for migrations are, `ports` those of libvirt's RPC. */
  async digest(directory: string, ports: readonly number[]): Promise<string> {
    const { tcp, unix } = await readListeners(this.#run);
    const listening = tcp
      .filter(({ port }) => ports.includes(port))
      .map(({ address, port }) => `${address} ${port}`)
      .sort();
    const sockets = SOCKETS.filter((path) => unix.has(path) || unix.has(`/var${path}`));
    const files = [...CONFIGURATIONS, directory, ...migrationFiles(directory)];
    const states = await Promise.all(files.map((path) => this.#state(path)));
    await this.#seeDaemons();
    const all = [listening, sockets, states, [...this.#daemons]];
    return createHash('sha256').update(JSON.stringify(all)).digest('hex');
  }

  /** Files whose change calls for a look. */
  watched(directory: string): Watched {
    const watched = new Map<string, Set<string>>();
    for (const path of [...CONFIGURATIONS, ...migrationFiles(directory), ...PID_FILES, ...SOCKETS]) {
      const [parent, name] = [this.#paths.at(dirname(path)), path.slice(path.lastIndexOf('/') + 1)];
      watched.set(parent, (watched.get(parent) ?? new Set()).add(name));
    }
    return watched;
  }

  /** What the file is to whoever reads it, behind links. */
  async #state(path: string): Promise<string> {
    const found = await stat(this.#paths.at(path)).catch(() => undefined);
    if (found === undefined) return '';
    const { ino, mode, uid, gid, size, mtimeMs, ctimeMs } = found;
    return [ino, mode, uid, gid, ...(found.isFile() ? [size, mtimeMs, ctimeMs] : [])].join(' ');
  }

  async #seeDaemons(): Promise<void> {
    for (const path of PID_FILES) {
      const pid = await readFile(this.#paths.at(path), 'utf8').catch(() => undefined);
      if (pid !== undefined) this.#daemons.set(path, `${pid.slice(0, 16).trim()} ${await this.#state(path)}`);
    }
  }
}
