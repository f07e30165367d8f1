import { setTimeout as delay } from 'node:timers/promises';
import { systemClock } from '@virt-trust/base/clock.ts';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { fasterClock } from '@virt-trust/base/timer.ts';
import { listCertificates } from '@virt-trust/contract/manager/certificate-operations.ts';
import { listJobs } from '@virt-trust/contract/manager/job-operations.ts';
import { createMigrationJob } from '@virt-trust/contract/manager/migration-operations.ts';
import type { Host } from '../host.ts';
import { runningVms, startVm } from '../vm.ts';
import type { SoakOptions } from './options.ts';
import { SoakFleet } from './soak-fleet.ts';
import { SoakProbes, vncPortOf } from './soak-probes.ts';
import { type SoakKind, Tally } from './tally.ts';

export interface SoakResult {
  readonly tally: Tally;
  /** How many certificates each service of each host got: `vnc of soak-a`. */
  readonly issued: ReadonlyMap<string, number>;
  /** How many different certificates the probes saw at each place. */
  readonly seen: ReadonlyMap<string, number>;
}

export interface SoakParts {
  readonly name: string;
  readonly say: (line: string) => void;
  readonly signal: AbortSignal;
  /** What it goes on for past its time, as long as nothing failed: a machine that is busy does less in that time. */
  readonly least?: {
    readonly done: Readonly<Partial<Record<SoakKind, number>>>;
    /** Different certificates seen served at each place. */
    readonly seen: number;
  };
}

/** Renews five-minute certificates for as long as is asked, under probes, VM starts and migrations; leaves nothing behind. */
export async function soak(
  options: SoakOptions,
  { name, say, signal, least = { done: {}, seen: 0 } }: SoakParts,
): Promise<SoakResult> {
  const clock = fasterClock(systemClock, options.clockRate);
  const fleet = await SoakFleet.up({ name, clock, say, signal });
  try {
    const probes = await SoakProbes.open(fleet, clock);
    const run = new SoakRun(fleet, probes, options, { say, signal, least });
    return await run.toTheEnd();
  } finally {
    say('taking everything down');
    await fleet.down();
  }
}

/** What goes on at the same time, until the time is over. */
class SoakRun {
  readonly #fleet: SoakFleet;
  readonly #probes: SoakProbes;
  readonly #options: SoakOptions;
  readonly #say: (line: string) => void;
  readonly #signal: AbortSignal;
  readonly #least: NonNullable<SoakParts['least']>;
  readonly #tally = new Tally();
  readonly #underWay = new Set<Promise<unknown>>();
  #last = 0;

  constructor(
    fleet: SoakFleet,
    probes: SoakProbes,
    options: SoakOptions,
    { say, signal, least }: Required<Omit<SoakParts, 'name'>>,
  ) {
    this.#fleet = fleet;
    this.#probes = probes;
    this.#options = options;
    this.#say = say;
    this.#signal = signal;
    this.#least = least;
  }

  async toTheEnd(): Promise<SoakResult> {
    const { minutes, clockRate } = this.#options;
    const ports = new Map<Host, number>();
    for (const host of this.#fleet.lab.hosts) {
      const vm = `steady-${host.name}`;
      await startVm(host, { name: vm, vncListen: '0.0.0.0' });
      ports.set(host, await vncPortOf(host, vm));
    }
    this.#say(`renewing for ${minutes} minutes at ${clockRate} times the speed of the clock`);
    this.#last = performance.now() + (minutes * MINUTE) / clockRate;
    await Promise.all([this.#probeEverySecond(ports), this.#moveVmsEveryMinute()]);
    await Promise.all(this.#underWay);
    await this.#countRenewals();
    const seen = new Map([...this.#probes.seen].map(([target, pins]) => [target, pins.size]));
    return { tally: this.#tally, issued: await this.#issued(), seen };
  }

  get #goesOn(): boolean {
    if (this.#signal.aborted) return false;
    if (performance.now() < this.#last) return true;
    return this.#tally.failures.length === 0 && !this.#hasDoneEnough();
  }

  #hasDoneEnough(): boolean {
    const { done, seen } = this.#least;
    const places = [...this.#probes.seen.values()];
    const kinds = Object.keys(done) as SoakKind[];
    return (
      kinds.every((kind) => this.#tally.count(kind) >= (done[kind] ?? 0)) &&
      places.every((certificates) => certificates.size >= seen)
    );
  }

  /** One begins each second, whether the one before was answered or not. */
  async #probeEverySecond(ports: ReadonlyMap<Host, number>): Promise<void> {
    while (this.#goesOn) {
      for (const [host, port] of ports) {
        this.#begin('libvirt handshake', host.name, () => this.#probes.libvirt(host));
        this.#begin('VNC handshake', `steady-${host.name}`, () => this.#probes.vnc(host, port));
      }
      await delay(SECOND);
    }
  }

  #begin(...[kind, what, work]: Parameters<Tally['run']>): void {
    const run = this.#count(kind, what, work).finally(() => this.#underWay.delete(run));
    this.#underWay.add(run);
  }

  #count<T>(kind: Parameters<Tally['run']>[0], what: string, work: () => Promise<T>): Promise<T | undefined> {
    return this.#tally.run(kind, what, work, (failure) =>
      this.#say(`FAILED ${failure.at.toISOString()} ${failure.kind} of ${failure.what}: ${failure.why}`),
    );
  }

  async #moveVmsEveryMinute(): Promise<void> {
    const interval = MINUTE / this.#options.clockRate;
    for (let round = 0; this.#goesOn; round++) {
      const next = performance.now() + interval;
      const [from, to] = round % 2 === 0 ? this.#fleet.lab.hosts : this.#fleet.lab.hosts.toReversed();
      if (from !== undefined && to !== undefined) await this.#startAndMigrate(`soak-vm-${round}`, from, to);
      const left = Math.min(next, this.#last) - performance.now();
      if (left > 0) await delay(left);
    }
  }

  async #startAndMigrate(vm: string, from: Host, to: Host): Promise<void> {
    const started = await this.#count('VM start', `${vm} on ${from.name}`, async () => {
      await startVm(from, { name: vm, vncListen: '0.0.0.0' });
      await this.#probes.vnc(from, await vncPortOf(from, vm));
      return true;
    });
    if (started !== true) return;
    const moved = await this.#count('migration', `${vm} from ${from.name} to ${to.name}`, async () => {
      const body = { vm, from: from.name, to: to.name };
      const job = await this.#fleet.client.call(createMigrationJob, { body });
      await this.#fleet.finished(job, this.#signal);
      if (!(await runningVms(to)).includes(vm)) throw new Error(`it does not run on ${to.name}`);
      return true;
    });
    const where = moved === true ? to : from;
    if (moved === true)
      await this.#count('VNC handshake', `${vm} on ${to.name}`, async () =>
        this.#probes.vnc(to, await vncPortOf(to, vm)),
      );
    await where.exec(['virsh', '--connect', 'qemu:///system', 'destroy', vm]);
  }

  /** The manager's own jobs: what it renewed, and what of that failed. */
  async #countRenewals(): Promise<void> {
    let cursor: string | undefined;
    do {
      const query = cursor === undefined ? { limit: 500 } : { limit: 500, cursor };
      const page = await this.#fleet.client.call(listJobs, { query });
      for (const job of page.items.filter(({ kind }) => kind === 'host-renew')) {
        await this.#count('renewal', job.subject, async () => {
          if (job.state === 'failed') throw new Error(job.error?.message ?? 'failed');
        });
      }
      cursor = page.next ?? undefined;
    } while (cursor !== undefined);
  }

  async #issued(): Promise<ReadonlyMap<string, number>> {
    const issued = new Map<string, number>();
    for (const host of this.#fleet.lab.hosts) {
      const { items } = await this.#fleet.client.call(listCertificates, {
        query: { host: host.name, limit: 1000 },
      });
      for (const { service } of items) {
        const key = `${service} of ${host.name}`;
        issued.set(key, (issued.get(key) ?? 0) + 1);
      }
    }
    return issued;
  }
}
