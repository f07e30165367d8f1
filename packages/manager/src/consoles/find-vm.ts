import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { virshDomain } from '@virt-trust/base/virsh-domain.ts';
import { getVmDisplays } from '@virt-trust/contract/agent/console-operations.ts';
import type { VmDisplays } from '@virt-trust/contract/model/console.ts';
import type { Host } from '../hosts/host.ts';
import type { HostsContext } from '../hosts/ports.ts';
import { requireHost } from '../hosts/require-host.ts';
import { Slots } from '../hosts/slots.ts';

/** A running VM with its displays, as the agent of its host sees them now. */
export interface FoundVm {
  readonly host: Host;
  readonly displays: VmDisplays['displays'];
  /** The hosts, by name, that had a VM of that name when they were last seen, and did not answer now; else empty. */
  readonly lastSeenOn: string;
}

type FindContext = Pick<HostsContext, 'repository' | 'channels'>;

/** Hosts that are asked at once. */
const CONCURRENCY = 32;
/** For one that is up and says nothing: the others have answered long ago. */
const ANSWER_MS = 5000;

/**
 * Where a VM runs: on the named host, or on the one of all hosts. Throws `console.not_running`, `console.vm_unknown`,
 * `console.vm_ambiguous`, `host.channel_down`.
 */
export async function findVm(
  vm: string,
  hostName: string | undefined,
  context: FindContext,
  signal: AbortSignal,
): Promise<FoundVm> {
  if (hostName !== undefined) {
    const host = await requireHost(hostName, context);
    const channel = await context.channels.of(host);
    await channel.waitUntilUp(signal, ANSWER_MS);
    try {
      const { displays } = await channel.agent.call(getVmDisplays, { params: { vm } }, { signal });
      return { host, displays, lastSeenOn: '' };
    } catch (error) {
      throw isTrustError(error, 'console.not_running') ? notThere(vm, host) : error;
    }
  }
  const hosts = await context.repository.list();
  const { up = [], away = [] } = Object.groupBy(hosts, ({ id }) =>
    context.channels.stateOf(id)?.kind === 'up' ? 'up' : 'away',
  );
  const slots = new Slots(CONCURRENCY);
  const found: Omit<FoundVm, 'lastSeenOn'>[] = [];
  await Promise.all(
    up.map((host) =>
      slots.run(signal, async () => {
        const limit = AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]);
        try {
          const { agent } = await context.channels.of(host);
          const { displays } = await agent.call(getVmDisplays, { params: { vm } }, { signal: limit });
          found.push({ host, displays });
        } catch (error) {
          signal.throwIfAborted();
          if (!isTrustError(error, 'console.not_running')) away.push(host);
        }
      }),
    ),
  );
  const [first, ...others] = found;
  if (first === undefined) throw unknown(vm, hosts, away);
  if (others.length > 0) throw ambiguous(vm, found);
  return { ...first, lastSeenOn: names(away.filter((host) => served(vm, host))) };
}

/** The inventory may be from before a migration; this is from its last look. */
function served(vm: string, { observed }: Host): boolean {
  return observed?.served.some((one) => one.vm === vm) === true;
}

function notThere(vm: string, host: Host): TrustError {
  return new TrustError(
    'console.not_running',
    'not-found',
    `cannot find VM ${vm}: it does not run on host ${host.name}`,
    { hint: `have all hosts asked: virt-trust console ${vm}` },
  );
}

function unknown(vm: string, hosts: readonly Host[], away: readonly Host[]): TrustError {
  const last = away.filter(
    (host) => served(vm, host) || host.inventory?.runningVms.some(({ name }) => name === vm) === true,
  );
  const asked = hosts.length - away.length;
  const silent = away.length === 0 ? '' : `; ${away.length} did not answer: ${names(away)}`;
  return new TrustError(
    'console.vm_unknown',
    'not-found',
    `cannot find VM ${vm}: it runs on none of the ${asked} hosts that were asked${silent}`,
    {
      hint:
        last.length > 0
          ? `it was last seen on ${names(last)}, which is away now: see virt-trust host show ${last[0]?.name}`
          : `VMs that are off have no display: start it (virsh start ${virshDomain({ name: vm, uuid: null })})`,
    },
  );
}

function ambiguous(vm: string, found: readonly Pick<FoundVm, 'host'>[]): TrustError {
  const hosts = found.map(({ host }) => host).sort((a, b) => (a.name < b.name ? -1 : 1));
  return new TrustError(
    'console.vm_ambiguous',
    'conflict',
    `cannot tell which VM ${vm} is meant: one of that name runs on each of ${names(hosts)}`,
    { hint: `name the one that you mean: virt-trust console ${vm} --host HOST` },
  );
}

function names(hosts: readonly Host[]): string {
  const shown = hosts.slice(0, 8).map(({ name }) => name);
  return shown.join(', ') + (hosts.length > shown.length ? ', ...' : '');
}
