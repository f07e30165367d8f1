import type { Server } from 'node:http';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { DAY } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { type Randomness, systemRandomness } from '@virt-trust/base/randomness.ts';
import type { FastifyInstance } from 'fastify';
import { RefusalLimit } from './access/refusal-limit.ts';
import { Tokens } from './access/tokens.ts';
import { AlarmSources } from './alarms/alarm-sources.ts';
import type { AuditDraft } from './audit/audit-entry.ts';
import type { AuthorityConstraints } from './authorities/internal-creation.ts';
import type { ComposeDomain, Core, Domain } from './core.ts';
import { domainsOf } from './domains.ts';
import { EventLog } from './events/event-log.ts';
import type { AnnounceListenOptions } from './hosts/announcements.ts';
import { auditHandlers } from './http/handlers/audit.ts';
import { eventHandlers } from './http/handlers/events.ts';
import { jobHandlers } from './http/handlers/jobs.ts';
import { settingHandlers } from './http/handlers/settings.ts';
import { systemHandlers } from './http/handlers/system.ts';
import { tokenHandlers } from './http/handlers/tokens.ts';
import type { Handlers } from './http/handlers.ts';
import { checkListen, DEFAULT_LISTEN, isLoopback, type ListenOptions } from './http/listen.ts';
import { createServer } from './http/server.ts';
import { createStatusServer, listenForStatus, type StatusListenOptions } from './http/status-routes.ts';
import { JobRunner } from './jobs/job-runner.ts';
import { createLog } from './log.ts';
import { Metrics } from './metrics/metrics.ts';
import { sealKeyPlace } from './seal/seal-key-file.ts';
import { Settings } from './settings/settings.ts';
import { SqliteAuditLog } from './store/audit-log.ts';
import { SqliteEventStore } from './store/event-store.ts';
import { SqliteJobStore } from './store/job-store.ts';
import { openSeal, rotateSealKey } from './store/open-seal.ts';
import { openStore } from './store/open-store.ts';
import { SqliteSettingStore } from './store/setting-store.ts';
import { SqliteTokenStore } from './store/token-store.ts';

export interface ManagerOptions {
  readonly stateDirectory: string;
  readonly version: string;
  readonly listen?: ListenOptions;
  /** Where CRLs and OCSP are served alone, in the clear; nowhere where left out. */
  readonly statusListen?: StatusListenOptions | undefined;
  /** Where hosts may announce themselves; nowhere where left out. */
  readonly announceListen?: AnnounceListenOptions | undefined;
  /** The program file that enrolment copies to hosts. */
  readonly agentProgram?: string;
  /** What the authorities that are made at the first start may certify; empty for no constraint. */
  readonly constraints?: AuthorityConstraints;
  /** Where systemd put credentials: $CREDENTIALS_DIRECTORY. */
  readonly credentialsDirectory?: string | undefined;
  /** Seals every secret of the store under a fresh key before anything else is done. */
  readonly rotateSealKey?: boolean;
  readonly log?: Log;
  readonly clock?: Clock;
  readonly randomness?: Randomness;
  readonly jobConcurrency?: number;
  readonly heartbeatMilliseconds?: number;
}

/** A manager that serves. */
export interface RunningManager {
  readonly url: string;
  /** Where status alone is served; undefined where it is not. */
  readonly statusUrl: string | undefined;
  /** The first administrator's token: at the first start alone, and nowhere else. */
  readonly initialToken: string | undefined;
  /** Ends streams, lets requests and jobs come to a stop, and closes the store; what was not finished goes on at the next start. */
  close(): Promise<void>;
}

const CLOSE_GRACE = 5000;

/** Starts the manager on a state directory; a second start goes on where the first one stopped, however it stopped. */
export async function startManager(
  options: ManagerOptions,
  domains: readonly ComposeDomain[] = domainsOf(options.constraints ?? { dns: [], subnets: [] }),
): Promise<RunningManager> {
  const listen = options.listen ?? DEFAULT_LISTEN;
  checkListen(listen);
  const clock = options.clock ?? systemClock;
  const store = openStore(options.stateDirectory, clock);
  const stop = new AbortController();
  const open: Domain[] = [];
  let server: FastifyInstance | undefined;
  let statusServer: Server | undefined;
  let jobs: JobRunner | undefined;
  const close = async (): Promise<void> => {
    stop.abort();
    if (server !== undefined) await closeServer(server);
    if (statusServer !== undefined) await closeStatusServer(statusServer);
    await jobs?.close();
    for (const domain of open.toReversed()) await domain.close?.();
    store.close();
  };
  try {
    const { core, events } = composeCore(options, clock, store.database, stop.signal);
    jobs = core.jobs;
    for (const compose of domains) open.push(await compose(core));
    const status = open.find((domain) => domain.status !== undefined)?.status;
    server = createServer(handlersOf(core, open), {
      status,
      listen,
      log: core.log,
      authentication: core,
      jobs: core.jobs,
      signal: stop.signal,
      heartbeatMilliseconds: options.heartbeatMilliseconds ?? 15_000,
      requests: core.metrics.counter('virt_trust_http_requests_total', 'Requests by operation and status.'),
    });
    const url = await listenOn(server, listen);
    let statusUrl: string | undefined;
    if (options.statusListen !== undefined && status !== undefined) {
      statusServer = createStatusServer(status);
      statusUrl = await listenForStatus(statusServer, options.statusListen);
    }
    // After the port was got: a token that nobody is shown would be lost.
    const initialToken = await core.tokens.createFirst();
    if (options.rotateSealKey === true) await core.audit.append([sealRotated(core.seal.keyId)]);
    await tidy(core, events);
    const tidying = setInterval(() => {
      tidy(core, events).catch((error) =>
        core.log.error({}, `cannot tidy the store: ${describeError(error)}`),
      );
    }, DAY);
    tidying.unref();
    stop.signal.addEventListener('abort', () => clearInterval(tidying));
    await core.jobs.start();
    for (const domain of open) await domain.start?.();
    core.log.info({ url, statusUrl }, 'the manager serves');
    let closing: Promise<void> | undefined;
    return {
      url,
      statusUrl,
      initialToken,
      close: () => {
        closing ??= close();
        return closing;
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

function composeCore(
  options: ManagerOptions,
  clock: Clock,
  database: Core['database'],
  signal: AbortSignal,
): { core: Core; events: SqliteEventStore } {
  const randomness = options.randomness ?? systemRandomness;
  const log = options.log ?? createLog();
  const place = sealKeyPlace(options.stateDirectory, options.credentialsDirectory);
  const eventStore = new SqliteEventStore(database, clock);
  const events = new EventLog(eventStore);
  const metrics = new Metrics();
  const jobs = new JobRunner({
    store: new SqliteJobStore(database, clock),
    events,
    clock,
    log,
    concurrency: options.jobConcurrency ?? 32,
  });
  metrics.gauge('virt_trust_jobs', 'Jobs by state.', async () =>
    [...(await jobs.countByState())].map(([state, value]) => ({ labels: { state }, value })),
  );
  const core: Core = {
    version: options.version,
    stateDirectory: options.stateDirectory,
    agentProgram: options.agentProgram,
    announceListen: options.announceListen,
    clock,
    randomness,
    log,
    database,
    seal: options.rotateSealKey
      ? rotateSealKey(database, place, randomness)
      : openSeal(database, place, randomness),
    sealKeyPlace: place,
    audit: new SqliteAuditLog(database, clock),
    events,
    jobs,
    settings: new Settings(new SqliteSettingStore(database, clock)),
    tokens: new Tokens(new SqliteTokenStore(database, clock), clock, randomness),
    refusals: new RefusalLimit(clock),
    metrics,
    alarms: new AlarmSources(),
    signal,
  };
  return { core, events: eventStore };
}

function sealRotated(keyId: string): AuditDraft {
  const detail = 'everything is sealed anew, the old key is destroyed';
  return { actor: 'manager', action: 'seal.rotate', subject: keyId, outcome: 'done', detail };
}

function handlersOf(core: Core, domains: readonly Domain[]): Partial<Handlers> {
  const clusterOf = async (host: string): Promise<string> => {
    for (const domain of domains) if (domain.clusterOf !== undefined) return domain.clusterOf(host);
    throw new TrustError('host.unknown', 'not-found', `cannot find host ${host}`);
  };
  const ready = async (): Promise<void> => {
    await core.tokens.list();
    for (const domain of domains) await domain.ready?.();
  };
  return Object.assign(
    {
      ...systemHandlers(core, ready),
      ...jobHandlers(core.jobs),
      ...eventHandlers(core.events),
      ...settingHandlers(core.settings, clusterOf, async (name, place, actor) => {
        const all = await Promise.all(domains.map((domain) => domain.settingPut?.(name, place, actor)));
        const known = all.filter((one) => one !== undefined);
        return {
          warnings: known.flatMap(({ warnings }) => warnings),
          jobs: known.flatMap(({ jobs }) => jobs),
        };
      }),
      ...auditHandlers(core.audit),
      ...tokenHandlers(core.tokens),
    },
    ...domains.map(({ handlers }) => handlers),
  );
}

async function listenOn(server: FastifyInstance, listen: ListenOptions): Promise<string> {
  try {
    return await server.listen({ host: listen.address, port: listen.port });
  } catch (cause) {
    throw new TrustError(
      'listen.failed',
      'unavailable',
      `cannot listen on ${listen.address} port ${listen.port}: ${describeError(cause)}`,
      {
        cause,
        hint: isLoopback(listen.address) ? 'choose another port' : 'choose an address of this machine',
      },
    );
  }
}

/** Waits for requests under way, but not for clients that never finish theirs. */
async function closeServer(server: FastifyInstance): Promise<void> {
  const cut = setTimeout(() => server.server.closeAllConnections(), CLOSE_GRACE);
  try {
    await server.close();
  } finally {
    clearTimeout(cut);
  }
}

async function closeStatusServer(server: Server): Promise<void> {
  // Nobody waits for these answers: whoever asks again gets them.
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

async function tidy(core: Core, events: SqliteEventStore): Promise<void> {
  await core.jobs.prune(await core.settings.value('jobs.retention_days'));
  events.trim();
}
