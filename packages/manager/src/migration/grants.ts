import { describeError } from '@virt-trust/base/error.ts';
import { instant } from '@virt-trust/base/instant.ts';
import { deleteGrant, listGrants, putGrant } from '@virt-trust/contract/agent/grant-operations.ts';
import type { Grant, GrantedOperation } from '@virt-trust/contract/model/grant.ts';
import type { MigrationOrder, PreparedVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationOptions } from '@virt-trust/contract/model/migration-options.ts';
import { MIGRATE_FLAGS } from '@virt-trust/libvirt/migration-protocol.ts';
import type { Host } from '../hosts/host.ts';
import { isOver } from '../jobs/job.ts';
import type { MigrationContext } from './context.ts';
import { grantPeerOf } from './grant-peer.ts';
import type { MigrationEnd } from './migration-end.ts';

const CALL_MS = 20_000;
const CHANNEL_WAIT_MS = 10_000;

/** The two hosts of a migration that take part in it by their agents; null where one of them has none. */
export type AgentPair = { readonly source: Host; readonly destination: Host } | null;

/** Both hosts, where each has an agent that takes part; else null: then there is nobody to give leave to. */
export function agentPair(from: MigrationEnd, to: MigrationEnd): AgentPair {
  return from.kind === 'managed' && to.kind === 'managed'
    ? { source: from.host, destination: to.host }
    : null;
}

/** What two agents are given leave for. */
export interface GrantOrder {
  readonly order: MigrationOrder;
  readonly vm: PreparedVm;
  /** The destination's address that was chosen for the migration: tried first. */
  readonly migrationAddress: string | null;
  /** Until when connections may begin, by the clock of each host. */
  readonly notAfter: Readonly<Record<Grant['role'], number>>;
}

/** Gives both agents leave to talk for one migration: the destination first, which is asked first. */
export async function giveGrants(
  pair: NonNullable<AgentPair>,
  order: GrantOrder,
  context: MigrationContext,
  signal: AbortSignal,
): Promise<void> {
  for (const role of ['destination', 'source'] as const) {
    const channel = await context.channels.of(pair[role]);
    await channel.waitUntilUp(signal);
    const body = grantFor(role, pair[role === 'source' ? 'destination' : 'source'], order);
    await channel.agent.call(putGrant, { params: { id: body.id }, body }, { signal });
  }
}

/** What a host is told of the other; pure. */
function grantFor(
  role: Grant['role'],
  peer: Host,
  { order, vm, migrationAddress, notAfter }: GrantOrder,
): Grant {
  const { id, mode, options } = order;
  const first = role === 'source' && migrationAddress !== null ? [migrationAddress] : [];
  return {
    id,
    role,
    mode,
    operations: operationsOf(role, order, vm),
    peer: grantPeerOf(peer, first),
    vm: { name: order.vm, ...vm },
    flags: mode === 'pinned' ? permittedFlags(options) : 0,
    streams: mode === 'pinned' ? streamsOf(options, vm) : 1,
    notAfter: instant(notAfter[role]),
  };
}

/** SECURITY: the destination asks the source for nothing but how the VM stands; streams there are in mode pinned alone. */
function operationsOf(
  role: Grant['role'],
  { mode, options }: MigrationOrder,
  vm: PreparedVm,
): GrantedOperation[] {
  if (role === 'source') return ['status'];
  if (mode !== 'pinned') return ['create', 'status'];
  const disks = options.copyStorage === 'none' && vm.copiedDisks.length === 0 ? [] : (['disks'] as const);
  return ['create', 'status', 'rpc', 'stream', ...disks];
}

/** Libvirt's flags that a migration with these options may have, and no other. */
function permittedFlags(options: MigrationOptions): number {
  const on = (wanted: boolean, flag: number) => (wanted ? flag : 0);
  return (
    options.flags |
    MIGRATE_FLAGS.changeProtection |
    MIGRATE_FLAGS.abortOnError |
    // A VM that is paused before stays so: its conductor sees that, and may see it later than anybody here.
    MIGRATE_FLAGS.paused |
    on(options.live, MIGRATE_FLAGS.live) |
    on(options.offline, MIGRATE_FLAGS.offline) |
    on(options.persistent, MIGRATE_FLAGS.persistDestination) |
    on(options.undefineSource, MIGRATE_FLAGS.undefineSource) |
    on(options.copyStorage === 'all', MIGRATE_FLAGS.nonSharedDisk) |
    on(options.copyStorage === 'inc', MIGRATE_FLAGS.nonSharedIncremental) |
    on(options.postCopy || options.timeoutAction === 'post-copy', MIGRATE_FLAGS.postCopy) |
    on(options.parallel > 0, MIGRATE_FLAGS.parallel) |
    on(options.compression !== 'none', MIGRATE_FLAGS.compressed) |
    on(options.autoConverge, MIGRATE_FLAGS.autoConverge)
  );
}

/** QEMU's main stream, those of multifd, and one for each disk. */
function streamsOf({ parallel }: MigrationOptions, { copiedDisks }: PreparedVm): number {
  return Math.min(128, 1 + parallel + copiedDisks.length);
}

/** Takes a migration's grant back from whoever may hold it; what is away lets it go by itself, or at its return. */
export async function takeGrantsBack(
  id: string,
  hosts: readonly Host[],
  context: MigrationContext,
): Promise<void> {
  await Promise.all(
    hosts.map(async (host) => {
      const signal = AbortSignal.timeout(CALL_MS);
      try {
        const channel = await context.channels.of(host);
        await channel.waitUntilUp(signal, CHANNEL_WAIT_MS);
        await channel.agent.call(deleteGrant, { params: { id } }, { signal });
      } catch (error) {
        context.log.warn(
          { host: host.name, grant: id, reason: describeError(error) },
          'a grant is taken back when the host is there again',
        );
      }
    }),
  );
}

/** Takes back what a host still holds of migrations that are over: it was away, or a manager died in between. */
export async function sweepGrants(host: Host, context: MigrationContext, signal: AbortSignal): Promise<void> {
  if (host.observeOnly) return;
  const { agent } = await context.channels.of(host);
  const { grants } = await agent.call(listGrants, {}, { signal });
  for (const { id } of grants) {
    // Of another manager's, and of preflights, nothing is known here; they end by themselves.
    const job = await context.jobs.get(id).catch(() => null);
    if (job?.kind === 'migrate' && isOver(job)) await takeGrantsBack(id, [host], context);
  }
}
