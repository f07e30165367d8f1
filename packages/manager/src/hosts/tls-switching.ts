import { describeError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { JobDefinition } from '../jobs/job.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import type { SettingPlace } from '../settings/setting-store.ts';
import type { Host } from './host.ts';
import type { HostsContext } from './ports.ts';
import { provision } from './provisioning.ts';
import { requireHost } from './require-host.ts';

/** Jobs of which as many run at once; what a fleet is switched by is no flood. */
const SLOTS = 8;
/** In whose name a host is switched that was away. */
const ACTOR = 'manager';
/** As many hosts are named. */
const NAMED = 8;

/** What is asked of a job `tls-switch`: the setting says in which direction, as it stands when the job runs. */
interface SwitchOrder {
  readonly host: string;
}

/** Brings a host to where kvm.libvirtd.tls.enabled has it. */
export function tlsSwitchJob(context: HostsContext): JobDefinition<SwitchOrder> {
  return {
    kind: 'tls-switch',
    async run({ host: name }, job) {
      const host = await requireHost(name, context);
      const wanted = (await context.tlsOf(host)).enabled;
      if (!isBehind(host, wanted)) return `host ${name} has TLS ${wanted ? 'on' : 'off'} already`;
      return provision(name, context, job);
    },
  };
}

/** Whether a host's TLS is not as the setting has it. What is only observed, revoked or on its way is left alone. */
export function isBehind(host: Host, wanted: boolean): boolean {
  const { state, observeOnly, revoked, tlsOff = false, observed } = host;
  if (observeOnly || revoked !== undefined || state === 'removing' || state === 'enrolling') return false;
  if (observed === null) return false;
  // A manager that was restored may remember it as off while it serves.
  return wanted ? tlsOff : !tlsOff || observed.credentials.length > 0;
}

export interface TlsSwitchingParts {
  readonly context: Pick<HostsContext, 'repository' | 'channels' | 'tlsOf' | 'log'>;
  readonly jobs: Pick<JobRunner, 'enqueue' | 'unfinished'>;
  readonly job: JobDefinition<SwitchOrder>;
  /** Whether nothing is to be changed now: the fleet is frozen, or not known after a restore. */
  readonly isHeld: () => Promise<boolean>;
}

/** Has hosts switched whose TLS is not as the setting has it: at once where they are up, else when they come back. */
export class TlsSwitching {
  readonly #parts: TlsSwitchingParts;
  #slot = 0;

  constructor(parts: TlsSwitchingParts) {
    this.#parts = parts;
  }

  /** After the setting was put or taken back: the jobs, and what whoever did it should know. */
  async settingPut(place: SettingPlace, actor: string): Promise<{ jobs: string[]; warnings: string[] }> {
    const { context, isHeld } = this.#parts;
    const behind: Host[] = [];
    for (const host of await context.repository.list())
      if (isAt(host, place) && (await this.#isBehind(host))) behind.push(host);
    if (behind.length === 0) return { jobs: [], warnings: [] };
    if (await isHeld()) {
      const warning = `nothing is changed while the fleet is frozen or its hosts are asked after a restore: ${namesOf(behind)} will be switched once that is over`;
      return { jobs: [], warnings: [warning] };
    }
    const away = behind.filter(({ id }) => !this.#isUp(id));
    const jobs: string[] = [];
    for (const host of behind) if (this.#isUp(host.id)) jobs.push(await this.#enqueue(host, actor));
    const warnings = away.length === 0 ? [] : [`${namesOf(away)} is switched when its channel is up again`];
    return { jobs, warnings };
  }

  /** Its channel came up, and both sides know each other's keys. */
  async greeted(id: HostId): Promise<void> {
    try {
      const host = await this.#parts.context.repository.get(id);
      if (host === null || !(await this.#isBehind(host)) || (await this.#parts.isHeld())) return;
      await this.#enqueue(host, ACTOR);
    } catch (error) {
      this.#parts.context.log.warn({ host: id, reason: describeError(error) }, 'its TLS was not switched');
    }
  }

  /** The fleet goes on. */
  async resume(): Promise<void> {
    for (const id of await this.#parts.context.repository.ids()) if (this.#isUp(id)) await this.greeted(id);
  }

  async #isBehind(host: Host): Promise<boolean> {
    return isBehind(host, (await this.#parts.context.tlsOf(host)).enabled);
  }

  #isUp(id: HostId): boolean {
    return this.#parts.context.channels.stateOf(id)?.kind === 'up';
  }

  /** One that waits for its turn plans with what holds then; one that runs looks once more at its end. */
  async #enqueue(host: Host, actor: string): Promise<string> {
    const { jobs, job } = this.#parts;
    const lock = `host:${host.name}`;
    const known = jobs.unfinished('tls-switch').find(({ locks }) => locks.includes(lock));
    if (known !== undefined) return known.job.id;
    this.#slot = (this.#slot + 1) % SLOTS;
    const { id } = await jobs.enqueue(job, {
      subject: host.name,
      payload: { host: host.name },
      actor,
      locks: [lock, `tls-switch:${this.#slot}`],
    });
    return id;
  }
}

function isAt(host: Host, { scope, target }: SettingPlace): boolean {
  return scope === 'global' || target === (scope === 'host' ? host.name : host.cluster);
}

function namesOf(hosts: readonly Host[]): string {
  const names = hosts.slice(0, NAMED).map(({ name }) => name);
  const more = hosts.length - names.length;
  return `${hosts.length === 1 ? 'host' : 'each of the hosts'} ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
