import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { VERSION } from '@virt-trust/base/version.ts';
import { type ManagerClient, managerClient } from '@virt-trust/cli/manager-client.ts';
import { addHost, getHost, passGate, removeHost } from '@virt-trust/contract/manager/host-operations.ts';
import { getJob } from '@virt-trust/contract/manager/job-operations.ts';
import type { Gate } from '@virt-trust/contract/model/gate.ts';
import type { AddHost, HostDetail } from '@virt-trust/contract/model/host.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { createLog } from '@virt-trust/manager/log.ts';
import { type RunningManager, startManager } from '@virt-trust/manager/manager.ts';
import type { Host } from '../src/host.ts';
import { Lab } from '../src/lab.ts';
import { programPath } from './program.ts';

const FINISH_TIMEOUT = 15 * 60_000;

export interface FleetOptions {
  readonly lab: string;
  readonly hosts: readonly string[];
  readonly clock?: Clock;
  /** Whether hosts may announce themselves to the manager, on a free port. */
  readonly announced?: boolean;
  /** Ranges besides the lab's that the authorities may certify. */
  readonly moreRanges?: (lab: Lab) => readonly string[];
  /** What the manager logs; errors alone on standard error where left out. */
  readonly log?: Log;
}

/** A booted lab with a manager for it, asked through its HTTP API alone. */
export class Fleet {
  readonly lab: Lab;
  readonly stateDirectory: string;
  readonly #clock: Clock;
  readonly #announced: boolean;
  readonly #ranges: readonly string[];
  readonly #log: Log;
  #manager: RunningManager | undefined;
  #token = '';

  private constructor(
    lab: Lab,
    stateDirectory: string,
    { clock = systemClock, announced = false, moreRanges = () => [], log = createLog('error') }: FleetOptions,
  ) {
    this.lab = lab;
    this.stateDirectory = stateDirectory;
    this.#clock = clock;
    this.#announced = announced;
    this.#log = log;
    this.#ranges = [...lab.ranges, ...moreRanges(lab)];
  }

  static async up(options: FleetOptions): Promise<Fleet> {
    const lab = await Lab.up({ name: options.lab, hosts: options.hosts, keepState: false });
    let stateDirectory: string | undefined;
    try {
      stateDirectory = await mkdtemp(join(tmpdir(), 'vt-fleet-'));
      const fleet = new Fleet(lab, stateDirectory, options);
      await fleet.startManager();
      return fleet;
    } catch (error) {
      await lab.down({ deleteState: true });
      if (stateDirectory !== undefined) await rm(stateDirectory, { recursive: true, force: true });
      throw error;
    }
  }

  async startManager(clock: Clock = this.#clock): Promise<void> {
    this.#manager = await startManager({
      stateDirectory: join(this.stateDirectory, 'manager'),
      version: VERSION,
      listen: { address: '127.0.0.1', port: 0 },
      announceListen: this.#announced ? { port: 0 } : undefined,
      agentProgram: await programPath(),
      log: this.#log,
      // So that the daemons of the lab see certificates of authorities with critical name constraints.
      constraints: { dns: this.lab.hosts.map((host) => host.name), subnets: this.#ranges },
      clock,
    });
    this.#token = this.#manager.initialToken ?? this.#token;
  }

  async stopManager(): Promise<void> {
    await this.#manager?.close();
    this.#manager = undefined;
  }

  get url(): string {
    return this.#manager?.url ?? '';
  }

  get token(): string {
    return this.#token;
  }

  get client(): ManagerClient {
    return managerClient({ url: this.url, token: this.#token });
  }

  host(name: string): Host {
    return this.lab.host(name);
  }

  /** The order by which an administrator adds a host of the lab. */
  async order(name: string, more: Partial<AddHost> = {}): Promise<AddHost> {
    const host = this.host(name);
    return {
      name,
      ssh: { destination: host.sshTarget, identityFile: this.lab.sshKey },
      fingerprint: (await host.sshFingerprint()) as never,
      ...more,
    };
  }

  async add(name: string, more: Partial<AddHost> = {}): Promise<Job> {
    return this.finished(await this.client.call(addHost, { body: await this.order(name, more) }));
  }

  async remove(name: string, force = false): Promise<Job> {
    return this.finished(await this.client.call(removeHost, { params: { name }, query: { force } }));
  }

  async passGate(name: string, gate: Gate, force = false): Promise<Job> {
    return this.finished(await this.client.call(passGate, { params: { name, gate }, body: { force } }));
  }

  show(name: string): Promise<HostDetail> {
    return this.client.call(getHost, { params: { name } });
  }

  /** Follows the job to its end; throws its error, with every step, where it failed. */
  async finished(job: Job): Promise<Job> {
    const client = this.client;
    for await (const _ of client.events(
      `/api/v1/jobs/${job.id}/events`,
      AbortSignal.timeout(FINISH_TIMEOUT),
    )) {
      // Only the end of the stream matters here.
    }
    const last = await client.call(getJob, { params: { id: job.id } });
    if (last.state === 'done') return last;
    const steps = last.steps.map((step) => `${step.state} ${step.name} ${step.detail}`).join('\n');
    throw new Error(`${last.error?.code}: ${last.error?.message}\nhint: ${last.error?.hint}\n${steps}`, {
      cause: last.error,
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      await this.stopManager();
    } finally {
      try {
        await this.lab.down({ deleteState: true });
      } finally {
        await rm(this.stateDirectory, { recursive: true, force: true });
      }
    }
  }
}
