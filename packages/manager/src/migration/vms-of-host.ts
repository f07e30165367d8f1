import { TrustError } from '@virt-trust/base/error.ts';
import { listVms } from '@virt-trust/contract/agent/migration-operations.ts';
import type { HostVm } from '@virt-trust/contract/model/host-vm.ts';
import type { Host } from '../hosts/host.ts';
import type { MigrationContext } from './context.ts';
import type { MigrationEnd } from './migration-end.ts';

const CHANNEL_WAIT_MS = 5_000;
const ANSWER_MS = 20_000;

interface AskContext {
  readonly channels: Pick<MigrationContext['channels'], 'of'>;
}

/**
 * Every VM that a host has, running or off, as its libvirt says it now: by its own agent, or, where it has none, by that of
 * the host at the other end. Throws where nobody answers.
 */
export async function vmsOf(
  end: MigrationEnd,
  other: MigrationEnd,
  context: AskContext,
  signal?: AbortSignal,
): Promise<readonly HostVm[]> {
  if (end.kind !== 'unmanaged') return await ask(end.host, undefined, context, signal);
  if (other.kind !== 'unmanaged') return await ask(other.host, end.host.address, context, signal);
  throw new TrustError(
    'host.unmanaged',
    'conflict',
    `cannot see which VMs ${end.name} has: neither it nor ${other.name} has an agent`,
    { hint: `take one of them under management: virt-trust host add ${end.name} --ssh USER@ADDRESS` },
  );
}

async function ask(
  host: Host,
  address: string | undefined,
  { channels }: AskContext,
  signal: AbortSignal | undefined,
): Promise<readonly HostVm[]> {
  const limit = AbortSignal.any([AbortSignal.timeout(ANSWER_MS), ...(signal === undefined ? [] : [signal])]);
  const channel = await channels.of(host);
  await channel.waitUntilUp(limit, CHANNEL_WAIT_MS);
  const query = address === undefined ? {} : { address };
  return (await channel.agent.call(listVms, { query }, { signal: limit })).vms;
}
