import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { RpcDaemon } from '@virt-trust/libvirt/libvirtd-settings.ts';
import type { SocketState, Sockets } from '../sets/apply-state.ts';
import type { Listening } from '../sets/daemon-settings.ts';
import type { DaemonTarget } from './host-effects.ts';

/** A busy host takes its time: libvirtd reads every VM's state before it answers. */
const START_MS = 180_000;
const ATTEMPTS = 5;
const LOG_LINES = 8;

/** What systemd says of a unit. */
export interface UnitState {
  readonly loaded: boolean;
  readonly active: boolean;
  readonly enabled: boolean;
  readonly masked: boolean;
}

/** Reads `systemctl show --property=Id,LoadState,ActiveState,UnitFileState`, a block of lines for each unit. */
export function parseUnits(output: string): Map<string, UnitState> {
  const units = new Map<string, UnitState>();
  for (const block of output.split(/\n{2,}/)) {
    const values = new Map(
      block.split('\n').map((line): [string, string] => {
        const at = line.indexOf('=');
        return [line.slice(0, at), line.slice(at + 1).trim()];
      }),
    );
    const id = values.get('Id');
    if (id === undefined) continue;
    units.set(id, {
      loaded: values.get('LoadState') === 'loaded',
      active: ['active', 'activating', 'reloading'].includes(values.get('ActiveState') ?? ''),
      enabled: (values.get('UnitFileState') ?? '').startsWith('enabled'),
      masked: values.get('LoadState') === 'masked',
    });
  }
  return units;
}

const ABSENT: UnitState = { loaded: false, active: false, enabled: false, masked: false };

/** The daemon that serves libvirt's RPC to the network, under systemd. */
export class RpcDaemonUnits {
  readonly #run: RunHostCommand;
  readonly #daemon: RpcDaemon;

  constructor(run: RunHostCommand, daemon: RpcDaemon) {
    this.#run = run;
    this.#daemon = daemon;
  }

  get service(): string {
    return `${this.#daemon}.service`;
  }

  /** The services that read the configuration: with the modular daemons qemu.conf is virtqemud's. */
  get readers(): readonly string[] {
    return this.#daemon === 'libvirtd' ? [this.service] : [this.service, 'virtqemud.service'];
  }

  socket(kind: '' | '-tls' | '-tcp'): string {
    return `${this.#daemon}${kind}.socket`;
  }

  async sockets(): Promise<Sockets> {
    return this.#socketsOf(await this.#show([this.socket('-tls'), this.socket('-tcp')]));
  }

  /**
   * Its sockets for the network, and how it listens; throws `libvirt.not_listening` where it can't be made to listen for
   * the network.
   */
  async state(): Promise<{ readonly sockets: Sockets; readonly listening: Listening }> {
    const { service } = this;
    const units = await this.#show([this.socket('-tls'), this.socket('-tcp'), service, this.socket('')]);
    return { sockets: this.#socketsOf(units), listening: await this.#listening(units) };
  }

  #socketsOf(units: ReadonlyMap<string, UnitState>): Sockets {
    const of = (kind: '-tls' | '-tcp'): SocketState => {
      const { enabled, active } = units.get(this.socket(kind)) ?? ABSENT;
      return { enabled, active };
    };
    return { tls: of('-tls'), tcp: of('-tcp') };
  }

  async #listening(units: ReadonlyMap<string, UnitState>): Promise<Listening> {
    const main = units.get(this.socket('')) ?? ABSENT;
    if (main.loaded && (main.active || main.enabled)) return 'systemd-sockets';
    // Without systemd's sockets the daemon opens its own, if it is told to by --listen.
    const arguments_ = await this.#commandLine();
    if (/(?:^|\s)(?:--listen|-l)(?:\s|$)/.test(arguments_)) return 'own-sockets';
    // Stopped, which is said when it is to be brought up, or one that never listens.
    if (!main.masked || !(units.get(this.service) ?? ABSENT).active) return 'systemd-sockets';
    throw new TrustError(
      'libvirt.not_listening',
      'conflict',
      `cannot switch TLS on: ${this.service} runs without systemd's sockets and without --listen`,
      { hint: `unmask and start ${this.socket('')}, or add --listen to the daemon's arguments` },
    );
  }

  /**
   * Brings sockets and daemon as wanted. systemd starts a socket only while its service is stopped; VMs are processes
   * of their own and run on. Throws `libvirt.stopped` where an administrator stopped libvirt, `libvirt.not_started`.
   */
  async bring({ sockets, restart }: DaemonTarget): Promise<void> {
    const now = await this.sockets();
    const changes = (['tls', 'tcp'] as const).filter(
      (kind) => JSON.stringify(now[kind]) !== JSON.stringify(sockets[kind]),
    );
    if (changes.length === 0 && !restart) return;
    await this.#refuseStopped();
    const starting = changes.filter((kind) => sockets[kind].active && !now[kind].active);
    for (const kind of changes) {
      const unit = this.socket(`-${kind}`);
      if (sockets[kind].enabled !== now[kind].enabled)
        await this.#run('systemctl', [sockets[kind].enabled ? 'enable' : 'disable', unit]);
      if (!sockets[kind].active && now[kind].active) await this.#run('systemctl', ['stop', unit]);
    }
    if (starting.length > 0) await this.#startSockets(starting.map((kind) => this.socket(`-${kind}`)));
    // A socket that was taken away stays open in a daemon that has it.
    await this.#restart();
    await this.#ready();
  }

  async #startSockets(units: readonly string[]): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      await this.#run('systemctl', ['stop', this.service], { timeoutMs: START_MS });
      try {
        await this.#run('systemctl', ['start', ...units]);
        return;
      } catch (cause) {
        // A client's connection to its other sockets started the daemon again in between.
        if (attempt >= ATTEMPTS) throw await this.#notStarted(units.join(', '), cause);
      }
    }
  }

  async #restart(): Promise<void> {
    for (const unit of this.readers) {
      await this.#run('systemctl', ['reset-failed', unit], { acceptedCodes: [1] });
      try {
        await this.#run('systemctl', ['restart', unit], { timeoutMs: START_MS });
      } catch (cause) {
        throw await this.#notStarted(unit, cause);
      }
    }
  }

  /** Waits until the daemon answers; the connection itself waits for a daemon that is starting. */
  async #ready(): Promise<void> {
    try {
      await this.#run('virsh', ['-c', 'qemu:///system', 'version', '--daemon'], { timeoutMs: START_MS });
    } catch (cause) {
      throw await this.#notStarted(this.service, cause);
    }
  }

  /** Whether the daemon does not run, and no connection would start it. */
  async stopped(): Promise<boolean> {
    const units = await this.#show([this.service, this.socket('')]);
    return ![...units.values()].some(({ active }) => active);
  }

  async #refuseStopped(): Promise<void> {
    const units = await this.#show([this.service, this.socket('')]);
    const [service, socket] = [units.get(this.service) ?? ABSENT, units.get(this.socket('')) ?? ABSENT];
    if (service.active || socket.active) return;
    if (service.masked || socket.masked || (service.loaded && !(await this.#failed()))) {
      throw new TrustError(
        'libvirt.stopped',
        'conflict',
        `cannot bring ${this.service} as wanted: it and ${this.socket('')} are stopped`,
        {
          hint: `start it: systemctl start ${this.socket('')} ${this.service}; then provision the host again`,
        },
      );
    }
  }

  async #failed(): Promise<boolean> {
    const { stdout } = await this.#run('systemctl', ['is-failed', this.service, this.socket('')], {
      acceptedCodes: [1, 3, 4],
    });
    return stdout.split('\n').includes('failed');
  }

  async #commandLine(): Promise<string> {
    const { stdout } = await this.#run('ps', ['-C', this.#daemon, '-o', 'args='], { acceptedCodes: [1] });
    return stdout;
  }

  async #show(units: readonly string[]): Promise<Map<string, UnitState>> {
    const { stdout } = await this.#run('systemctl', [
      'show',
      '--property=Id,LoadState,ActiveState,UnitFileState',
      ...units,
    ]);
    return parseUnits(stdout);
  }

  async #notStarted(what: string, cause: unknown): Promise<TrustError> {
    const log = await this.#run('journalctl', [
      '--unit',
      this.service,
      '--lines',
      String(LOG_LINES),
      '--output=cat',
      '--no-pager',
    ]).then(
      ({ stdout }) => stdout.trim(),
      () => '',
    );
    return new TrustError(
      'libvirt.not_started',
      'failed',
      `cannot start ${what}: ${describeError(cause)}${log === '' ? '' : `; its log ends: ${log.slice(-1500)}`}`,
      { hint: `see journalctl -u ${this.service} on the host`, cause },
    );
  }
}
