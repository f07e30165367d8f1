import { TrustError } from '@virt-trust/base/error.ts';
import type { HostId } from '@virt-trust/base/host-id.ts';
import type { HostDetail, SettingsRetry } from '@virt-trust/contract/model/host.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { PROVIDERS } from '@virt-trust/contract/model/provider.ts';
import { collect } from '../../hosts/collect.ts';
import type { Host } from '../../hosts/host.ts';
import { type hostJobs, prepareAdd } from '../../hosts/host-jobs.ts';
import { detailOf, type HostAlarms, type HostPresence, summaryOf } from '../../hosts/host-view.ts';
import type { ManagerIdentity } from '../../hosts/manager-identity.ts';
import type { HostsContext } from '../../hosts/ports.ts';
import { requireHost } from '../../hosts/require-host.ts';
import { settingsDue } from '../../hosts/settings-bringing.ts';
import { scanHostKeys } from '../../hosts/ssh-scan.ts';
import { wantedSettings } from '../../hosts/wanted-settings.ts';
import type { JobRunner } from '../../jobs/job-runner.ts';
import { pageOf } from '../cursor.ts';
import type { Actor, Handlers } from '../handlers.ts';

type HostOperations =
  | 'scanSshHostKeys'
  | 'listHosts'
  | 'addHost'
  | 'getHost'
  | 'removeHost'
  | 'collectHost'
  | 'provisionHost'
  | 'passGate'
  | 'rollHostKey'
  | 'rollManagerKey'
  | 'getManagerIdentity';

export interface HostHandlersParts {
  readonly context: HostsContext;
  readonly identity: ManagerIdentity;
  readonly jobs: JobRunner;
  readonly definitions: ReturnType<typeof hostJobs>;
  readonly alarmsOf: (hostName: string) => HostAlarms;
  /** When a host is brought its settings again, where that failed. */
  readonly retryOf: (id: HostId) => SettingsRetry | null;
  /** The settings that hold where whoever asks for a provisioning does not say. */
  readonly provisionDefaults: (host: Host) => Promise<{ provider: string; reconnect: boolean }>;
}

/** A host with everything that is known of it; throws `host.unknown`. */
export async function hostDetail(
  name: string,
  { context, alarmsOf, retryOf }: Pick<HostHandlersParts, 'context' | 'alarmsOf' | 'retryOf'>,
): Promise<HostDetail> {
  const [host, fleet] = await Promise.all([requireHost(name, context), context.repository.list()]);
  const tls = await context.tlsOf(host);
  const due = settingsDue(host, await wantedSettings(host, context));
  const bringing = { due, retry: retryOf(host.id) };
  return detailOf(host, fleet, presenceOf(host, context), alarmsOf(name), tls, bringing);
}

function presenceOf({ id }: Host, { channels }: Pick<HostsContext, 'channels'>): HostPresence {
  return { channel: channels.stateOf(id), lostAt: channels.lostAt(id) };
}

function assertProvider(provider: string, hostName: string): void {
  if ((PROVIDERS as readonly string[]).includes(provider)) return;
  throw new TrustError(
    'provider.unknown',
    'invalid',
    `cannot provision host ${hostName}: there is no kind of CA ${JSON.stringify(provider)}`,
    { hint: `there is: ${PROVIDERS.join(', ')}` },
  );
}

const hostLock = (name: string) => `host:${name}`;
const EVERY_HOST = 'hosts:all';

/** The handlers that work on hosts and VMs. */
export function hostHandlers({
  context,
  identity,
  jobs,
  definitions,
  alarmsOf,
  retryOf,
  provisionDefaults,
}: HostHandlersParts): Pick<Handlers, HostOperations> {
  const detail = (name: string) => hostDetail(name, { context, alarmsOf, retryOf });
  /** SECURITY: what an administrator has revoked, nobody below takes back. */
  const refuseLift = async (name: string, actor: Actor) => {
    const reason = 'it was revoked, and only an administrator takes it back';
    await context.audit.append({
      actor: actor.auditName,
      action: 'host.lift',
      subject: name,
      outcome: 'refused',
      detail: reason,
    });
    return new TrustError('access.role', 'denied', `cannot provision host ${name}: ${reason}`, {
      hint: 'use a token with the role administrator',
    });
  };
  return {
    async scanSshHostKeys({ body, signal }) {
      const keys = await scanHostKeys(body, signal);
      return { keys: keys.map(({ algorithm, fingerprint }) => ({ algorithm, fingerprint })) };
    },
    async listHosts({ query }) {
      const hosts = await context.repository.list();
      return pageOf(
        query,
        async (after, limit) => {
          const shown = hosts.filter((host) => after === undefined || host.name > after).slice(0, limit);
          return Promise.all(shown.map(async (host) => ({ host, tls: await context.tlsOf(host) })));
        },
        ({ host }) => host.name,
        ({ host, tls }) => summaryOf(host, presenceOf(host, context), alarmsOf(host.name), tls),
      );
    },
    async addHost({ body, actor, idempotencyKey, signal }): Promise<Job> {
      const hostKey = await prepareAdd(body, context, signal);
      return jobs.enqueue(definitions.add, {
        subject: body.name,
        payload: { order: body, hostKey },
        actor: actor.auditName,
        locks: [hostLock(body.name)],
        idempotencyKey,
      });
    },
    getHost: ({ params }) => detail(params.name),
    async removeHost({ params, query, actor, idempotencyKey }) {
      await requireHost(params.name, context);
      const payload = { host: params.name, force: query?.force === true };
      return jobs.enqueue(definitions.remove, {
        subject: params.name,
        payload,
        actor: actor.auditName,
        locks: [hostLock(params.name)],
        idempotencyKey,
      });
    },
    async collectHost({ params, signal }) {
      await collect(params.name, context, signal);
      return detail(params.name);
    },
    async provisionHost({ params, body, actor, idempotencyKey }) {
      const host = await requireHost(params.name, context);
      const { revoked } = host;
      if (revoked !== undefined && actor.role !== 'administrator') throw await refuseLift(params.name, actor);
      const defaults = await provisionDefaults(host);
      const provider = body.provider ?? defaults.provider;
      assertProvider(provider, params.name);
      const payload = {
        host: params.name,
        renew: body.renew === true,
        provider,
        reconnect: body.reconnect ?? defaults.reconnect,
        ...(revoked === undefined ? {} : { lifts: revoked.at }),
      };
      return jobs.enqueue(definitions.provision, {
        subject: params.name,
        payload,
        actor: actor.auditName,
        locks: [hostLock(params.name)],
        idempotencyKey,
      });
    },
    async passGate({ params, body, actor, idempotencyKey }) {
      await requireHost(params.name, context);
      const payload = { host: params.name, gate: params.gate, force: body.force === true };
      return jobs.enqueue(definitions.gate, {
        subject: params.name,
        payload,
        actor: actor.auditName,
        locks: [hostLock(params.name)],
        idempotencyKey,
      });
    },
    async rollHostKey({ params, query, actor, idempotencyKey }) {
      await requireHost(params.name, context);
      return jobs.enqueue(definitions.roll, {
        subject: params.name,
        payload: { host: params.name, compromised: query?.compromised === true },
        actor: actor.auditName,
        locks: [hostLock(params.name)],
        idempotencyKey,
      });
    },
    async rollManagerKey({ query, actor, idempotencyKey }) {
      return jobs.enqueue(definitions.roll, {
        subject: 'manager',
        payload: { host: null, compromised: query?.compromised === true },
        actor: actor.auditName,
        locks: [EVERY_HOST],
        idempotencyKey,
      });
    },
    getManagerIdentity: () => identity.describe(),
  };
}
