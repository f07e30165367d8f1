import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import { HostCgroup } from './cgroup.ts';
import { type CommandOptions, type CommandResult, exec, run, succeed } from './command.ts';
import type { HostPlan } from './host-plan.ts';
import { startMachine } from './machine.ts';
import { createNamespace, removeNamespace, setCable } from './network.ts';
import type { InterfacePlan, NetworkName } from './network-plan.ts';
import { until } from './until.ts';

const BOOT_TIMEOUT = 300_000;
const POWEROFF_TIMEOUT = 180_000;
/** How long a server may take to its first word: a busy machine starts a process for each client. */
const GREETING_TIMEOUT = 15_000;
const ENVIRONMENT = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME: '/root',
  USER: 'root',
  LANG: 'C.UTF-8',
};

/** One host of a lab: a booted Debian with systemd, sshd, libvirtd and QEMU, and an address of its own. */
export class Host {
  readonly plan: HostPlan;
  readonly #cgroup: HostCgroup;

  constructor(plan: HostPlan) {
    this.plan = plan;
    this.#cgroup = new HostCgroup(plan.lab, plan.name);
  }

  get name(): string {
    return this.plan.name;
  }

  /** The IPv4 address on the management network. */
  get address(): string {
    return this.on('management').address;
  }

  /** The IPv6 address on the management network. */
  get address6(): string {
    return this.on('management').address6;
  }

  /** The interface on a network, with the addresses that the host has there from its start; throws `lab.no_network`. */
  on(network: NetworkName): InterfacePlan {
    const found = this.plan.interfaces.find((card) => card.network === network);
    if (found !== undefined) return found;
    throw new TrustError(
      'lab.no_network',
      'not-found',
      `cannot use network ${network} of host ${this.name}: it has none`,
    );
  }

  /** What to give to ssh(1). */
  get sshTarget(): string {
    return `root@${this.address}`;
  }

  /** Whether any process of the host is there. */
  async running(): Promise<boolean> {
    return (await this.#cgroup.processes()).length > 0;
  }

  /** The numbers that the machine has for the host's processes. */
  processes(): Promise<number[]> {
    return this.#cgroup.processes();
  }

  /** CPU seconds of all its processes since it was booted, also of those that ended; throws `lab.no_cpu_time`. */
  cpuSeconds(): Promise<number> {
    return this.#cgroup.cpuSeconds();
  }

  /** Boots the host with the disk it has and waits until its services have started; throws `lab.boot`. */
  async boot(signal?: AbortSignal): Promise<void> {
    if (await this.running()) {
      throw new TrustError('lab.running', 'conflict', `cannot boot host ${this.name}: it is running`);
    }
    await removeNamespace(this.plan.namespace, this.plan.interfaces);
    await createNamespace(this.plan.namespace, this.plan.interfaces);
    const cgroups = await this.#cgroup.create();
    signal?.throwIfAborted();
    const machine = startMachine(this.plan, cgroups);
    await until(`boot host ${this.name}`, BOOT_TIMEOUT, async () => {
      signal?.throwIfAborted();
      if (machine.pid === undefined || machine.exitCode !== null || machine.signalCode !== null)
        throw await this.#bootError('its container ended');
      if ((await this.#cgroup.leader()) === undefined) return undefined;
      const state = await this.exec(['systemctl', 'is-system-running', '--wait'], { timeout: BOOT_TIMEOUT });
      if (state.stdout.trim() === 'running') return true;
      if (state.stdout.trim() !== 'degraded') return undefined;
      const failed = await this.exec(['systemctl', '--failed', '--plain', '--no-legend', '--no-pager']);
      throw await this.#bootError(`units failed: ${failed.stdout.trim().split('\n').join('; ')}`);
    });
    await this.run(['virsh', '--connect', 'qemu:///system', 'version']);
    await this.#answersSsh();
  }

  /** Shuts the host down in order, as the power button does, and waits until nothing of it runs. */
  async poweroff(): Promise<void> {
    if (await this.running()) {
      // The answer may be cut off by what was asked for.
      await this.exec(['systemctl', 'poweroff']);
      await this.#cgroup.empty(POWEROFF_TIMEOUT, `shut host ${this.name} down`);
    }
    await this.#unplug();
  }

  /** Ends the host as a power cut does. */
  async crash(): Promise<void> {
    await this.#unplug();
  }

  /** Runs a command on the host as root; returns whatever it said and its exit code. */
  async exec(argv: readonly string[], options: Omit<CommandOptions, 'env'> = {}): Promise<CommandResult> {
    return exec([...(await this.#enter()), ...argv], { ...options, env: ENVIRONMENT });
  }

  /** Runs a command on the host that must succeed; returns its standard output; throws `lab.command_failed`. */
  async run(argv: readonly string[], options: Omit<CommandOptions, 'env'> = {}): Promise<string> {
    return succeed(argv, await this.exec(argv, options), ` on ${this.name}`);
  }

  /** Starts a command on the host and returns its process (of nsenter(1)), with pipes to all three streams. */
  async start(argv: readonly string[]): Promise<ChildProcess> {
    const [command = '', ...args] = [...(await this.#enter()), ...argv];
    return spawn(command, args, { stdio: 'pipe', env: ENVIRONMENT });
  }

  /** Writes a file on the host, whole or not at all, and makes its directory. */
  async writeFile(path: string, data: string | Uint8Array, mode = 0o644): Promise<void> {
    const script =
      'set -e; umask 077; mkdir -p -m 0755 -- "$(dirname -- "$1")"; cat >"$1.$3"; chmod "$2" "$1.$3"; mv -f -- "$1.$3" "$1"';
    const argv = ['sh', '-c', script, 'sh', path, mode.toString(8), randomUUID()];
    await this.run(argv, { input: data });
  }

  /** The text of a file on the host; throws `lab.command_failed`. */
  async readFile(path: string): Promise<string> {
    return this.run(['cat', '--', path]);
  }

  /** The fingerprint of the SSH host key, `SHA256:...` as ssh-keygen(1) prints it. */
  async sshFingerprint(): Promise<string> {
    const path = `${this.plan.upper}/etc/ssh/ssh_host_ed25519_key.pub`;
    return (await run(['ssh-keygen', '-l', '-E', 'sha256', '-f', path])).split(' ')[1] ?? '';
  }

  async cutCable(network: NetworkName = 'management'): Promise<void> {
    await setCable(this.on(network), 'down');
  }

  async plugCable(network: NetworkName = 'management'): Promise<void> {
    await setCable(this.on(network), 'up');
  }

  async #unplug(): Promise<void> {
    await this.#cgroup.destroy();
    // What a container that was killed could not put away itself.
    await rm(`/run/systemd/nspawn/propagate/${this.plan.machine}`, { recursive: true, force: true });
    await removeNamespace(this.plan.namespace, this.plan.interfaces);
  }

  async #enter(): Promise<string[]> {
    const leader = await this.#cgroup.leader();
    if (leader === undefined) {
      throw new TrustError(
        'lab.not_running',
        'unavailable',
        `cannot reach into host ${this.name}: it is not running`,
      );
    }
    // Its root too: a container that was started in a chroot has another than its mount namespace.
    return ['/usr/bin/nsenter', '--target', String(leader), '--all', '--root', '--wd', '--'];
  }

  async #answersSsh(): Promise<void> {
    await until(`reach sshd of host ${this.name} at ${this.address}`, BOOT_TIMEOUT, () =>
      greets(this.address, 22),
    );
  }

  async #bootError(reason: string): Promise<TrustError> {
    const { stdout: console } = await exec(['tail', '-n', '200', this.plan.console]);
    // Each host takes about 16 of the inotify instances that all processes of root share.
    const hint = console.includes('Too many open files')
      ? 'the machine has too few for all that runs on it: sysctl -w fs.inotify.max_user_instances=1024'
      : `see ${this.plan.console}`;
    return new TrustError('lab.boot', 'failed', `cannot boot host ${this.name}: ${reason}`, {
      hint,
      context: { console: console.split('\n').slice(-5).join('\n') },
    });
  }
}

/** True once a server at the address says anything; undefined as long as it does not. */
function greets(address: string, port: number): Promise<true | undefined> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port, timeout: GREETING_TIMEOUT });
    const end = (answer: true | undefined) => {
      socket.destroy();
      resolve(answer);
    };
    socket
      .once('data', () => end(true))
      .once('error', () => end(undefined))
      // It may end without a word, while it starts.
      .once('close', () => end(undefined))
      .once('timeout', () => end(undefined));
  });
}
