import { readdir, rm } from 'node:fs/promises';
import { TrustError } from '@virt-trust/base/error.ts';
import { HostCgroup } from './cgroup.ts';
import { Host } from './host.ts';
import { ensureDisk, ensureSshKey } from './host-disk.ts';
import { planHosts, sshKeyPath } from './host-plan.ts';
import { raiseInotifyLimit } from './inotify-limit.ts';
import { createBridges, removeBridges, usedRanges } from './network.ts';
import { chooseIndex, NETWORK_NAMES, type NetworkName, planNetworks, rangesInUse } from './network-plan.ts';
import { endOrphans } from './orphans.ts';
import { ensurePackages, MACHINE_PACKAGES } from './packages.ts';
import { labDirectory } from './paths.ts';
import { lock, type ProcessLock, tryLock } from './process-lock.ts';
import { allRecords, checkName, type LabRecord, readRecord, TEST_RUN, writeRecord } from './record.ts';
import { ensureRoot, pruneRoots } from './root.ts';

/** What the lab is doing now, for people. */
interface LabProgress {
  readonly step: 'packages' | 'root' | 'network' | 'host';
  readonly text: string;
}

export interface LabOptions {
  /** Labs of different names run side by side. */
  readonly name: string;
  readonly hosts: readonly string[];
  /** Boot the hosts again with the disks they had; false begins with fresh ones. */
  readonly keepState: boolean;
  readonly progress?: (progress: LabProgress) => void;
  /** Gives up bringing the lab up when it is aborted, and takes away what was made until then. */
  readonly signal?: AbortSignal;
}

type Say = (step: LabProgress['step']) => (text: string) => void;

/** A set of booted hosts on networks of their own; `down` or its disposal takes all of it away. */
export class Lab implements AsyncDisposable {
  readonly name: string;
  readonly hosts: readonly Host[];
  readonly record: LabRecord;
  readonly #keepState: boolean;
  readonly #owned: ProcessLock | undefined;

  private constructor(record: LabRecord, keepState: boolean, owned: ProcessLock | undefined) {
    this.name = record.name;
    this.record = record;
    this.hosts = planHosts(record).map((plan) => new Host(plan));
    this.#keepState = keepState;
    this.#owned = owned;
  }

  /**
   * Brings a lab up, installing and building what the machine lacks, and sweeping away first what a killed owner
   * of this name left; throws `lab.in_use` if it is up, and leaves nothing behind if it fails.
   */
  static async up(options: LabOptions): Promise<Lab> {
    checkName('lab', options.name);
    for (const host of options.hosts) checkName('host', host);
    const say: Say = (step) => (text) => options.progress?.({ step, text });
    const owned = await own(options.name);
    let lab: Lab | undefined;
    try {
      await refuseIfUp(options.name);
      await ensurePackages(MACHINE_PACKAGES, say('packages'));
      if (options.keepState) await sweepOwned(options.name);
      else await deleteOwned(options.name);
      const root = await ensureRoot({ say: say('root'), signal: options.signal });
      lab = new Lab(await plan(options, root.directory), options.keepState, owned);
      if (root.kind === 'built')
        await pruneRoots(new Set([root.directory, ...(await allRecords()).map((one) => one.root)]));
      await lab.#boot(say, options.signal);
      return lab;
    } catch (error) {
      if (lab === undefined) await owned.release();
      else await lab.#giveUp();
      throw options.signal?.aborted === true ? options.signal.reason : error;
    }
  }

  /** A lab that is up, to use it from another process than its owner; throws `lab.unknown`. */
  static async attach(name: string): Promise<Lab> {
    checkName('lab', name);
    const record = await readRecord(name);
    if (record !== undefined) return new Lab(record, true, undefined);
    throw new TrustError('lab.unknown', 'not-found', `cannot use lab ${name}: there is none of this name`, {
      hint: 'see `virt-trust lab status`',
    });
  }

  /** The path of the private SSH key that every host takes for root. */
  get sshKey(): string {
    return sshKeyPath(this.name);
  }

  /** The machine's own IPv4 address on the management network: where hosts see the manager. */
  get machineAddress(): string {
    return planNetworks(this.record.index, this.record.networks)[0]?.machineAddress ?? '';
  }

  /** The address ranges of its networks, of both families. */
  get ranges(): readonly string[] {
    return planNetworks(this.record.index, this.record.networks).flatMap((network) => network.ranges);
  }

  /** The address ranges of one of its networks, of both families. */
  rangesOf(name: NetworkName): string[] {
    const networks = planNetworks(this.record.index, this.record.networks);
    return networks.flatMap((network) => (network.name === name ? network.ranges : []));
  }

  /** The host of this name; throws `lab.no_host`. */
  host(name: string): Host {
    const found = this.hosts.find((host) => host.name === name);
    if (found !== undefined) return found;
    throw new TrustError(
      'lab.no_host',
      'not-found',
      `cannot find host ${name}: lab ${this.name} has ${this.record.hosts.join(', ')}`,
    );
  }

  /** Shuts down and removes all that runs; the disks too unless state is kept. Repeating it does nothing. */
  async down(options: { readonly deleteState?: boolean } = {}): Promise<void> {
    const deleteState = options.deleteState ?? !this.#keepState;
    const owned = this.#owned ?? (await own(this.name));
    // Disks that are thrown away need no orderly end.
    if (!deleteState) await Promise.allSettled(this.hosts.map((host) => host.poweroff()));
    if (deleteState) await deleteOwned(this.name);
    else await sweepOwned(this.name);
    await owned.release();
  }

  /** Takes away what was made of it; hosts that are booting are not asked. */
  async #giveUp(): Promise<void> {
    if (this.#keepState) await sweepOwned(this.name);
    else await deleteOwned(this.name);
    await this.#owned?.release();
  }

  /** Leaves the lab running when this process ends; `attach` finds it again. */
  async detach(): Promise<void> {
    await writeRecord({ ...this.record, owner: 'detached' });
    await this.#owned?.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.down();
  }

  async #boot(say: Say, signal: AbortSignal | undefined): Promise<void> {
    say('network')(`making the networks of lab ${this.name}`);
    await raiseInotifyLimit();
    await createBridges(planNetworks(this.record.index, this.record.networks));
    await ensureSshKey(this.name);
    const plans = planHosts(this.record);
    let crashed: Promise<unknown> | undefined;
    const abort = () => {
      crashed = Promise.allSettled(this.hosts.map((host) => host.crash()));
    };
    signal?.throwIfAborted();
    signal?.addEventListener('abort', abort);
    await allOrThrow(
      this.hosts.map(async (host) => {
        say('host')(`booting ${host.name} at ${host.address}`);
        await ensureDisk(host.plan, plans);
        await host.boot(signal);
        say('host')(`${host.name} is up`);
      }),
    ).finally(async () => {
      signal?.removeEventListener('abort', abort);
      await crashed;
    });
    signal?.throwIfAborted();
    for (const [position, host] of this.hosts.entries()) {
      const next = this.hosts[position + 1];
      if (next !== undefined) await reaches(host, next);
    }
  }
}

/** Removes what a lab whose owner was killed left running; with `deleteState` also its disks. Throws `lab.in_use`. */
export async function sweep(name: string, options: { readonly deleteState?: boolean } = {}): Promise<void> {
  checkName('lab', name);
  await using _owned = await own(name);
  if (options.deleteState === true) await deleteOwned(name);
  else await sweepOwned(name);
}

/** How long what an owner that was killed had just forked may keep its lock, until it executes another program. */
const FORKED_MS = 60_000;

async function own(name: string): Promise<ProcessLock> {
  const owned = await tryLock(`lab/${name}`);
  const owner = (await readRecord(name).catch(() => undefined))?.owner;
  const dead = typeof owner === 'number' && !isAlive(owner) ? owner : undefined;
  const limit = AbortSignal.timeout(FORKED_MS);
  const taken =
    owned ??
    (dead === undefined ? undefined : await lock(`lab/${name}`, undefined, limit).catch(() => undefined));
  if (taken !== undefined) {
    if (dead !== undefined) await endOrphans(dead);
    return taken;
  }
  throw new TrustError(
    'lab.in_use',
    'conflict',
    `cannot take lab ${name}: ${owner === undefined ? 'another process' : `process ${owner}`} has it`,
    {
      hint: 'end that process, or use another name',
    },
  );
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function refuseIfUp(name: string): Promise<void> {
  const record = await readRecord(name);
  if (record?.owner !== 'detached') return;
  for (const host of planHosts(record)) {
    if (!(await new Host(host).running())) continue;
    throw new TrustError('lab.in_use', 'conflict', `cannot bring lab ${name} up: it is up already`, {
      hint: `\`virt-trust lab down --name ${name}\` shuts it down`,
    });
  }
}

/** The record of the lab, written down before anything of it is made. */
async function plan(options: LabOptions, root: string): Promise<LabRecord> {
  await using _held = await lock('index');
  const { name, hosts } = options;
  const before = await readRecord(name);
  if (before !== undefined) {
    if (rangesInUse(before.index, await usedRanges())) {
      throw new TrustError(
        'lab.network_taken',
        'conflict',
        `cannot bring lab ${name} up again: the machine now uses its addresses otherwise`,
        {
          hint: `\`virt-trust lab down --name ${name} --delete-state\` begins afresh`,
        },
      );
    }
    if (
      before.hosts.join() === hosts.join() &&
      (await readdir(before.root).catch((): string[] => [])).length > 0
    ) {
      // A network that came to labs since then is there from now on: no disk knows of it.
      const record = { ...before, networks: NETWORK_NAMES, owner: process.pid };
      await writeRecord(record);
      return record;
    }
    throw new TrustError(
      'lab.state_differs',
      'conflict',
      `cannot bring lab ${name} up again: its disks are of hosts ${before.hosts.join(', ')} on root ${before.root}`,
      {
        hint: `\`virt-trust lab down --name ${name} --delete-state\` begins afresh`,
      },
    );
  }
  const others = await allRecords();
  const index = chooseIndex(new Set(others.map((other) => other.index)), await usedRanges());
  const testRun = process.env[TEST_RUN];
  const record = { name, index, hosts, networks: NETWORK_NAMES, root, owner: process.pid, testRun };
  await writeRecord(record);
  return record;
}

async function sweepOwned(name: string): Promise<void> {
  const record = await readRecord(name);
  if (record === undefined) return;
  const hosts = allOrThrow(planHosts(record).map((host) => new Host(host).crash()));
  // What one host has that cannot be taken away keeps nothing else.
  await hosts.catch(() => {});
  const [first] = record.hosts;
  if (first !== undefined) await new HostCgroup(name, first).removeParents();
  await removeBridges(planNetworks(record.index, record.networks));
  await hosts;
}

async function deleteOwned(name: string): Promise<void> {
  await sweepOwned(name);
  await rm(labDirectory(name), { recursive: true, force: true });
}

async function reaches(from: Host, to: Host): Promise<void> {
  for (const address of [to.address, to.address6]) {
    const probe = await from.exec(['bash', '-c', `exec 3<>/dev/tcp/${address}/22`], { timeout: 60_000 });
    if (probe.code === 0) continue;
    throw new TrustError(
      'lab.unreachable',
      'failed',
      `cannot reach ${to.name} at ${address} from ${from.name}: ${probe.stderr.trim()}`,
      {
        hint: "the machine's firewall may filter bridges: see `sysctl net.bridge.bridge-nf-call-iptables`",
      },
    );
  }
}

/** Waits for all, also when one fails, so that nothing is still being made while it is taken down. */
async function allOrThrow(tasks: readonly Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(tasks)).find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}
