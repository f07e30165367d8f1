import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { HostDetail } from '@virt-trust/contract/model/host.ts';
import type { Move } from '../../hosts/dial-at-new-place.ts';
import type { Claims, Host } from '../../hosts/host.ts';
import { assertManaged, type ProvisionOrder } from '../../hosts/host-jobs.ts';
import { reportOf } from '../../hosts/network-report.ts';
import type { HostsContext } from '../../hosts/ports.ts';
import { requireHost } from '../../hosts/require-host.ts';
import type { Declaring } from '../../interfaces/declaring.ts';
import type { Neighbours } from '../../interfaces/given-names.ts';
import { interfaceSettingsOf } from '../../interfaces/interface-settings.ts';
import { interfaceViews } from '../../interfaces/interface-view.ts';
import { renamed } from '../../interfaces/rename.ts';
import { rolesOf } from '../../interfaces/roles.ts';
import { describePlace, placeAfter } from '../../interfaces/set-address.ts';
import { interfaceWordAfter } from '../../interfaces/set-interface.ts';
import type { JobDefinition } from '../../jobs/job.ts';
import type { JobRunner } from '../../jobs/job-runner.ts';
import type { Settings } from '../../settings/settings.ts';
import type { Actor, Handlers } from '../handlers.ts';

type InterfaceOperations = 'listInterfaces' | 'setInterface' | 'setHostAddress' | 'renameHost';

export interface InterfaceHandlersParts {
  readonly context: HostsContext;
  readonly settings: Pick<Settings, 'value' | 'explain'>;
  readonly jobs: JobRunner;
  readonly provision: JobDefinition<ProvisionOrder>;
  readonly declaring: Pick<Declaring, 'redeclare' | 'bringRight'>;
  readonly detailOf: (name: string) => Promise<HostDetail>;
  /** Runs what gives a host another name beside those who keep things by name in memory. */
  readonly whileRenaming: (rename: () => Promise<Host>) => Promise<Host>;
}

/** The handlers for interfaces of hosts, where hosts are and what they are called. */
export function interfaceHandlers(parts: InterfaceHandlersParts): Pick<Handlers, InterfaceOperations> {
  const { context, jobs, declaring } = parts;
  const { repository } = context;
  const neighboursOf = (host: Host, { holderOf }: Claims): Neighbours => ({
    holderOf,
    managerNames: context.managerNamesFor(host),
    mayCertify: context.mayCertify,
  });
  /** SECURITY: who tries to give a host what is not its own is noted, whoever it is. */
  const noted = async <T>(actor: Actor, action: string, host: Host, work: () => Promise<T>): Promise<T> => {
    try {
      return await work();
    } catch (error) {
      if (isTrustError(error) && error.category !== 'internal') {
        const entry = { actor: actor.auditName, action, subject: host.name, outcome: 'refused' } as const;
        await context.audit.append({ ...entry, detail: describeError(error) });
      }
      throw error;
    }
  };
  const doneBy = (actor: Actor, action: string, subject: string, detail: string) =>
    [{ actor: actor.auditName, action, subject, outcome: 'done', detail }] as const;
  return {
    async listInterfaces({ params }) {
      const host = await requireHost(params.name, context);
      const roles = rolesOf(host, reportOf(host), await interfaceSettingsOf(parts.settings, host));
      return { items: interfaceViews(host, (name) => roles.get(name) ?? []) };
    },

    async setInterface({ params, body, actor, idempotencyKey }) {
      const host = await requireHost(params.name, context);
      await noted(actor, 'interface.set', host, async () => {
        assertManaged(host);
        let said = '';
        await repository.update(
          host.id,
          (now, claims) => {
            const change = interfaceWordAfter(now, params.interface, body, neighboursOf(now, claims));
            said = change.said;
            return { ...now, word: change.word };
          },
          () => doneBy(actor, 'interface.set', host.name, `${params.interface}: ${said}`),
        );
      });
      await declaring.redeclare(host.id, actor.auditName);
      return jobs.enqueue(parts.provision, {
        subject: host.name,
        payload: { host: host.name, renew: false },
        actor: actor.auditName,
        locks: [`host:${host.name}`],
        idempotencyKey,
      });
    },

    async setHostAddress({ params, body, actor, idempotencyKey }) {
      const host = await requireHost(params.name, context);
      const place = await noted(actor, 'host.set_address', host, () =>
        repository.update(
          host.id,
          (now, claims) => ({ ...now, ...placeAfter(now, body, neighboursOf(now, claims)) }),
          (before, after) => doneBy(actor, 'host.set_address', host.name, describePlace(before, after)),
        ),
      );
      await declaring.redeclare(host.id, actor.auditName);
      const moved: Move = {
        to: place.channel,
        from: host.channel,
        sshFrom: place.ssh.destination === host.ssh.destination ? null : host.ssh.destination,
        channelOnly: body.channelOnly === true,
      };
      return jobs.enqueue(parts.provision, {
        subject: host.name,
        payload: { host: host.name, renew: false, moved },
        actor: actor.auditName,
        locks: [`host:${host.name}`],
        idempotencyKey,
      });
    },

    async renameHost({ params, body, actor }) {
      const host = await requireHost(params.name, context);
      if (body.name === host.name) return parts.detailOf(host.name);
      await noted(actor, 'host.rename', host, async () => {
        await parts.whileRenaming(() =>
          repository.update(
            host.id,
            (now, claims) => renamed(now, body.name, neighboursOf(now, claims)),
            (before, after) => doneBy(actor, 'host.rename', after.name, `was ${before.name}`),
          ),
        );
      });
      context.channels.renamed(host.id, body.name);
      const declared = await declaring.redeclare(host.id, actor.auditName);
      if (!declared.observeOnly) await declaring.bringRight(declared, actor.auditName);
      return parts.detailOf(body.name);
    },
  };
}
