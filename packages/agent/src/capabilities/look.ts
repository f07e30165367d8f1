import { machine } from 'node:os';
import type { Clock } from '@virt-trust/base/clock.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import { type DaemonMode, readProgramVersion } from '@virt-trust/check/host/libvirt-daemons.ts';
import { lineOf } from '@virt-trust/check/host/text.ts';
import type { HostCapabilities } from '@virt-trust/contract/model/capabilities.ts';
import { parseVersions, portsOf } from '../inventory/libvirt.ts';
import { readEffectiveSettings } from '../inventory/settings.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import { InForce, startOf } from './in-force.ts';
import { type Listeners, listenerOn, readListeners } from './listeners.ts';
import { lookAtNativeTls } from './native-tls.ts';

export interface LookParts {
  readonly paths: AgentContext['paths'];
  readonly mode: AgentContext['mode'];
  readonly run: RunHostCommand;
  readonly clock: Clock;
  readonly daemonMode: () => Promise<DaemonMode | undefined>;
  readonly peer: Pick<HostCapabilities, 'peerPort' | 'peerVersions'>;
  /** Which of these files the QEMU user can read. */
  readonly readableForQemu: (files: readonly string[]) => Promise<ReadonlySet<string>>;
  /** What waits for the end of a migration. */
  readonly reloadWaits: () => readonly string[];
}

/** What a look came to; `at` is for whoever keeps it. */
export interface Look {
  readonly capabilities: Omit<HostCapabilities, 'at'>;
  /** Where QEMU's files for migrations are. */
  readonly directory: string;
  /** Of libvirt's RPC, whether anybody listens there or not. */
  readonly ports: readonly number[];
  /** When the passing of time alone may change it. */
  readonly until: Instant | null;
}

type Versions = ReturnType<typeof parseVersions>;

const URI = ['-c', 'qemu:///system'];
const TIMEOUT_MS = 20_000;

/** Where the daemons of a host keep what matters here. */
export const PLACES: Readonly<
  Record<DaemonMode, { socket: string; rpc: string; rpcPid: string; qemuPid: string }>
> = {
  monolithic: {
    socket: '/run/libvirt/libvirt-sock',
    rpc: '/etc/libvirt/libvirtd.conf',
    rpcPid: '/run/libvirtd.pid',
    qemuPid: '/run/libvirtd.pid',
  },
  modular: {
    socket: '/run/libvirt/virtqemud-sock',
    rpc: '/etc/libvirt/virtproxyd.conf',
    rpcPid: '/run/virtproxyd.pid',
    qemuPid: '/run/virtqemud.pid',
  },
};

export const QEMU_CONFIGURATION = '/etc/libvirt/qemu.conf';

/** Looks at sockets, configuration and files; each look knows what the one before saw in force. */
export class Looks {
  readonly #parts: LookParts;
  readonly #rpc = new InForce<string>();
  readonly #force = new InForce<boolean>();
  /** What the daemon said last. */
  #said: Versions | undefined;

  constructor(parts: LookParts) {
    this.#parts = parts;
  }

  async now(): Promise<Look> {
    const { paths, run, mode, peer } = this.#parts;
    const daemonMode = await this.#parts.daemonMode();
    const places = PLACES[daemonMode ?? 'monolithic'];
    const [settings, listeners, running] = await Promise.all([
      readEffectiveSettings(paths, daemonMode ?? 'monolithic'),
      readListeners(run),
      daemonMode === undefined ? undefined : this.#ask(paths.at(places.qemuPid)),
    ]);
    const [authentication, migrateTlsForce] = await Promise.all([
      this.#rpc.of(
        { pid: paths.at(places.rpcPid), configuration: paths.at(places.rpc) },
        settings.libvirtd.authTcp,
      ),
      this.#force.of(
        { pid: paths.at(places.qemuPid), configuration: paths.at(QEMU_CONFIGURATION) },
        settings.qemu.migrateTlsForce,
      ),
    ]);
    const qemuVersion =
      running?.qemuVersion ?? (await this.#version([`qemu-system-${machine()}`, 'qemu-kvm']));
    const { directory } = settings.qemu.services.migrate;
    const native = await this.#native(directory, qemuVersion);
    const ports = portsOf(settings);
    const tcp = listenerOn(ports.tcp, listeners);
    return {
      capabilities: {
        libvirtVersion: running?.version ?? (await this.#version(['libvirtd', 'virtqemud', 'virsh'])) ?? null,
        qemuVersion: qemuVersion ?? null,
        libvirtTls: listenerOn(ports.tls, listeners),
        libvirtTcp: tcp === null ? null : { ...tcp, authentication: lineOf(authentication) },
        nativeTls: native.lacks === '',
        nativeTlsLacks: native.lacks,
        migrateTlsForce,
        pinned: mode === 'manage' && running !== undefined && answers(places.socket, listeners),
        ...peer,
        reloadWaits: [...this.#parts.reloadWaits()].slice(0, 16).map((one) => lineOf(one)),
      },
      directory,
      ports: [ports.tls, ports.tcp],
      until: native.until,
    };
  }

  async #native(directory: string, qemuVersion: string | undefined) {
    const { paths, clock, readableForQemu } = this.#parts;
    if (qemuVersion === undefined) return { lacks: 'QEMU was not found', until: null };
    if (!directory.startsWith('/'))
      return { lacks: lineOf(`qemu.conf names no directory: ${directory}`), until: null };
    return await lookAtNativeTls({
      at: (path) => paths.at(path),
      directory,
      qemuVersion,
      now: clock.now(),
      readable: readableForQemu,
    });
  }

  /**
   * Undefined where the daemon does not answer. One that idles, or that somebody stopped just now, is not started by
   * being asked: it is what it was, as long as its socket is there.
   */
  async #ask(pidFile: string): Promise<Versions | undefined> {
    if (this.#said !== undefined && (await startOf(pidFile)) === undefined) return this.#said;
    try {
      const { stdout } = await this.#parts.run('virsh', [...URI, 'version', '--daemon'], {
        timeoutMs: TIMEOUT_MS,
      });
      this.#said = parseVersions(stdout);
    } catch {
      this.#said = undefined;
    }
    return this.#said;
  }

  async #version(programs: readonly string[]): Promise<string | undefined> {
    return await readProgramVersion(this.#parts.run, programs).catch(() => undefined);
  }
}

/** The socket over which the agent speaks to libvirt: systemd's or the daemon's own. */
function answers(socket: string, { unix }: Listeners): boolean {
  return unix.has(socket) || unix.has(`/var${socket}`);
}
