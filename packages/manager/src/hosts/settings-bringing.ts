import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import { instant } from '@virt-trust/base/instant.ts';
import type { JobContext, JobDefinition } from '../jobs/job.ts';
import type { JobRunner } from '../jobs/job-runner.ts';
import type { SettingPlace } from '../settings/setting-store.ts';
import { dueInWords, dueSettings, type WantedSettings } from './due-settings.ts';
import type { Host } from './host.ts';
import type { HostsContext } from './ports.ts';
import { provision } from './provisioning.ts';
import { requireHost } from './require-host.ts';
import { type SettingsRetries, triedAgain } from './settings-retries.ts';
import { wantedSettings } from './wanted-settings.ts';

/** Jobs of which as many run at once; what a fleet is changed by is no flood. */
const SLOTS = 8;
/** In whose name a host is brought its settings that was away. */
const ACTOR = 'manager';
/** Kinds of jobs that bring a host to what holds. */
const FOLLOWING = ['host-settings', 'host-provision', 'host-renew', 'host-gate', 'host-add'] as const;
/** As many hosts are named. */
const NAMED = 8;

/** What is asked of a job `host-settings`: what settings say holds as it stands when the job runs. */
interface SettingsOrder {
  readonly host: string;
}

type WantedContext = Pick<HostsContext, 'settingsOf' | 'announcePort'>;

/** Brings a host to where its settings have it; a failure says when that is tried again. */
export function settingsJob(
  context: HostsContext,
  retries: Pick<SettingsRetries, 'failed' | 'postponed' | 'over'>,
): JobDefinition<SettingsOrder> {
  return {
    kind: 'host-settings',
    async run(order, job) {
      try {
        const result = await bring(order.host, context, job);
        const host = await context.repository.find(order.host);
        if (host !== null) retries.over(host.id);
        return result;
      } catch (error) {
        const host = await context.repository.find(order.host);
        // What somebody stopped is theirs to begin again.
        if (job.signal.aborted || host === null) throw error;
        if (isTrustError(error, 'host.joined')) {
          retries.postponed(host.id);
          throw error;
        }
        throw triedAgain(error, instant(retries.failed(host.id, error).at));
      }
    },
  };
}

async function bring(name: string, context: HostsContext, job: JobContext): Promise<string> {
  const due = await job.step('Compare with what the host has', async (report) => {
    const host = await requireHost(name, context);
    const found = settingsDue(host, await wantedSettings(host, context));
    report(found.join('; ').slice(0, 1000) || 'it is as settings have it');
    return found;
  });
  if (due.length === 0) return `host ${name} has what settings say of it already`;
  return provision(name, context, job);
}

/**
 * What of its settings a host does not have yet, for people; empty where it has them all. What is only observed, revoked
 * or on its way is left alone, and what never came to its end is for whoever asked for it.
 */
export function settingsDue(host: Host, wanted: WantedSettings): string[] {
  const { state, observeOnly, revoked, tlsOff = false, observed } = host;
  if (observeOnly || revoked !== undefined || state === 'removing' || state === 'enrolling') return [];
  if (observed === null) return [];
  const { settings: has, credentials } = observed;
  const due = has == null ? [] : dueInWords(has, wanted, dueSettings(has, wanted));
  if (due.length > 0) return due;
  // A manager that was restored may remember TLS as off while the host serves; and an agent may say nothing of settings.
  const isOn = wanted.settings.tls === 'on';
  const isBehind = isOn ? tlsOff : !tlsOff || credentials.length > 0;
  return isBehind ? [`TLS ${wanted.settings.tls}`] : [];
}

export interface SettingsBringingParts {
  readonly context: Pick<HostsContext, 'repository' | 'channels' | 'observing' | 'log'> & WantedContext;
  readonly jobs: Pick<JobRunner, 'enqueue' | 'unfinished'>;
  readonly job: JobDefinition<SettingsOrder>;
  readonly retries: Pick<SettingsRetries, 'failed' | 'postponed' | 'over'>;
  /** Whether nothing is to be changed now: the fleet is frozen, or not known after a restore. */
  readonly isHeld: () => Promise<boolean>;
  readonly signal: AbortSignal;
}

/** Has hosts brought to what settings say of them: at once where they are up, else when they come back. */
export class SettingsBringing {
  readonly #parts: SettingsBringingParts;
  #slot = 0;

  constructor(parts: SettingsBringingParts) {
    this.#parts = parts;
  }

  /** After a setting was put or taken back: the jobs, and what whoever did it should know. */
  async settingPut(place: SettingPlace, actor: string): Promise<{ jobs: string[]; warnings: string[] }> {
    const { context, isHeld } = this.#parts;
    const behind: Host[] = [];
    for (const host of await context.repository.list())
      if (isAt(host, place) && (await this.#isBehind(host))) behind.push(host);
    if (behind.length === 0) return { jobs: [], warnings: [] };
    if (await isHeld()) {
      const warning = `nothing is changed while the fleet is frozen or its hosts are asked after a restore: it reaches ${namesOf(behind)} once that is over`;
      return { jobs: [], warnings: [warning] };
    }
    // Where a job follows a host over a channel that broke, that host may come back to it with what held before.
    const isReached = (host: Host) => this.#isUp(host.id) || this.#isFollowed(host);
    const away = behind.filter((host) => !isReached(host));
    const jobs: string[] = [];
    for (const host of behind) {
      // What failed before was something else, or for somebody who now tries again.
      this.#parts.retries.over(host.id);
      if (isReached(host)) jobs.push(await this.#enqueue(host, actor));
    }
    const warnings = away.length === 0 ? [] : [`it reaches ${namesOf(away)} when its channel is up again`];
    return { jobs, warnings };
  }

  /** Its channel came up, and both sides know each other's keys. */
  async greeted(id: HostId): Promise<void> {
    const { context, isHeld, retries, signal } = this.#parts;
    try {
      const known = await context.repository.get(id);
      if (known === null || known.observeOnly) return retries.over(id);
      // A job that goes on once the channel is up has it brought there; another one would only take its turn.
      if (this.#isFollowed(known)) return retries.postponed(id);
      // It may have been given something else than this store remembers.
      const host = await context.observing.refresh(id, await context.channels.of(known), signal);
      if (!(await this.#isBehind(host))) return retries.over(id);
      if (!(await isHeld())) await this.#enqueue(host, ACTOR);
      else retries.over(id);
    } catch (error) {
      if (signal.aborted) return;
      context.log.warn({ host: id, reason: describeError(error) }, 'settings were not brought to it');
      retries.failed(id, error);
    }
  }

  /** It is time to try again. Where the host is away, or nothing may be changed, what ends that looks at it anew. */
  async again(id: HostId): Promise<void> {
    if (this.#isUp(id)) await this.greeted(id);
  }

  /** The fleet goes on. */
  async resume(): Promise<void> {
    for (const id of await this.#parts.context.repository.ids()) if (this.#isUp(id)) await this.greeted(id);
  }

  async #isBehind(host: Host): Promise<boolean> {
    return settingsDue(host, await wantedSettings(host, this.#parts.context)).length > 0;
  }

  #isFollowed({ name }: Host): boolean {
    const { jobs } = this.#parts;
    return FOLLOWING.some((kind) => jobs.unfinished(kind).some(({ locks }) => locks.includes(lockOf(name))));
  }

  #isUp(id: HostId): boolean {
    return this.#parts.context.channels.stateOf(id)?.kind === 'up';
  }

  /** One that waits for its turn plans with what holds then; one that runs may have looked for the last time. */
  async #enqueue(host: Host, actor: string): Promise<string> {
    const { jobs, job } = this.#parts;
    const lock = lockOf(host.name);
    const queued = jobs
      .unfinished('host-settings')
      .find((record) => record.locks.includes(lock) && record.job.state === 'queued');
    if (queued !== undefined) return queued.job.id;
    this.#slot = (this.#slot + 1) % SLOTS;
    const { id } = await jobs.enqueue(job, {
      subject: host.name,
      payload: { host: host.name },
      actor,
      locks: [lock, `host-settings:${this.#slot}`],
    });
    return id;
  }
}

function lockOf(name: string): string {
  return `host:${name}`;
}

function isAt(host: Host, { scope, target }: SettingPlace): boolean {
  return scope === 'global' || target === (scope === 'host' ? host.name : host.cluster);
}

function namesOf(hosts: readonly Host[]): string {
  const names = hosts.slice(0, NAMED).map(({ name }) => name);
  const more = hosts.length - names.length;
  return `${hosts.length === 1 ? 'host' : 'each of the hosts'} ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}
