import { mkdir } from 'node:fs/promises';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { SECOND } from '@virt-trust/base/instant.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import { definedVm, namedPaths, undueParts } from '@virt-trust/libvirt/migration-definition.ts';
import { migrationXmlDigest } from '@virt-trust/libvirt/migration-xml.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { Arrivals } from '../ports/arrivals.ts';
import type { OwnProcesses } from '../state/own-processes.ts';
import { mountedDisks } from './mounted-disks.ts';
import { RelayFiles, type RelayStatus, relayIds } from './relay-files.ts';
import { makeSocketDirectory, migrationSockets, removeSocketDirectory } from './sockets.ts';

export interface HostArrivalsParts {
  readonly context: Pick<AgentContext, 'paths' | 'firewall' | 'log' | 'record'>;
  /** Of the relays. */
  readonly processes: OwnProcesses;
  readonly qemuUser: () => Promise<{ readonly uid: number; readonly gid: number }>;
  readonly findGrant: (id: string) => Grant | undefined;
  readonly startMs?: number;
  /** How often relays are looked at. */
  readonly lookMs?: number;
}

/** A program to start, which a busy host takes its time for; the source waits longer. */
const START_MS = 30 * SECOND;
const START_LOOK_MS = 20;
const LOOK_MS = 2 * SECOND;
const PREFIX = 'relay-';

/** This host as the destination of migrations: judges what the source says, and keeps the relays of mode `pinned`. */
export class HostArrivals implements Arrivals {
  readonly #parts: HostArrivalsParts;
  /** Relays that run, by id of their grant. */
  readonly #watched = new Map<string, Grant>();
  readonly #turns = new Map<string, Promise<unknown>>();
  #timer: NodeJS.Timeout | undefined;

  constructor(parts: HostArrivalsParts) {
    this.#parts = parts;
  }

  async start(): Promise<void> {
    const { context, findGrant } = this.#parts;
    const ids = await relayIds(context.paths);
    const kept = new Set(ids.map(openingOf));
    // A host that booted anew has no relay, but its firewall is opened again.
    for (const what of await context.firewall.opened())
      if (what.startsWith(PREFIX) && !kept.has(what)) await context.firewall.close(what);
    for (const id of ids) {
      const grant = findGrant(id);
      if (grant === undefined) await this.release(id);
      else this.#watch(grant);
    }
  }

  async create(
    grant: Grant,
    { xml, persistentXml }: { readonly xml: string; readonly persistentXml: string | null },
  ): Promise<{ relayPort: number | null }> {
    const { vm } = grant;
    if (vm === null || grant.role !== 'destination') throw noArrival(grant.id);
    const persistent = persistentXml === null ? null : migrationXmlDigest(persistentXml);
    // SECURITY: what the manager let through is what it saw at the source, not what the source says now.
    if (migrationXmlDigest(xml) !== vm.xmlSha256 || persistent !== vm.persistentXmlSha256)
      throw await this.#otherXml(grant, vm.name);
    if (grant.mode !== 'pinned') return { relayPort: null };
    await this.#requireDue(grant, vm, persistentXml === null ? [xml] : [xml, persistentXml]);
    return await this.#inTurn(grant.id, async () => ({ relayPort: await this.#relay(grant, vm.name) }));
  }

  /**
   * SECURITY: the digests of a grant are the source's own word of before, so that what they stand for is judged here, where
   * it is to be started: that it is this VM, and that it asks for no more of this host than a VM.
   */
  async #requireDue(grant: Grant, vm: NonNullable<Grant['vm']>, xmls: readonly string[]): Promise<void> {
    const reason =
      xmls.map((xml) => whyUndue(xml, vm)).find((why) => why !== null) ?? (await this.#whyMounted(xmls));
    if (reason === null) return;
    await this.#parts.context.record(
      'migration.cut_off',
      grant.id,
      `${vm.name} from ${grant.peer.name}: ${reason}`,
    );
    throw new TrustError('migration.undue_definition', 'denied', `cannot take VM ${vm.name}: ${reason}`, {
      context: { id: grant.id, vm: vm.name },
      hint: 'In mode pinned a destination starts nothing that would give the source more of it than a VM: remove that from the VM, or migrate in mode tls, in which the source commands the libvirt of the destination.',
    });
  }

  async #whyMounted(xmls: readonly string[]): Promise<string | null> {
    const mounted = await mountedDisks(xmls.flatMap(namedPaths), this.#parts.context.paths.at);
    return mounted.length === 0
      ? null
      : `its definition has disks that this host itself has mounted or swaps to: ${mounted.slice(0, 16).join(', ')}`;
  }

  async end(grant: Grant, outcome: string): Promise<void> {
    this.#parts.context.log.info({ id: grant.id, outcome }, 'the source says that it is over');
    await this.release(grant.id);
  }

  isRunning(id: string): Promise<boolean> {
    return this.#parts.processes.isRunning(id);
  }

  release(id: string): Promise<void> {
    return this.#inTurn(id, () => this.#end(id));
  }

  /** Relays go on without the agent. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#watched.clear();
    await Promise.allSettled(this.#turns.values());
  }

  async #relay(grant: Grant, vm: string): Promise<number> {
    const { context, processes, qemuUser } = this.#parts;
    const { id, peer } = grant;
    const files = new RelayFiles(context.paths, id);
    const before = await files.status.read();
    if (before?.cutOff != null) throw wasCutOff(id, before.cutOff);
    if (before?.port != null && !before.ended && (await processes.isRunning(id))) return before.port;
    try {
      const [owner] = await Promise.all([
        qemuUser(),
        mkdir(files.directory, { recursive: true, mode: 0o700 }),
      ]);
      await files.status.remove();
      await files.order.write({ grant });
      await Promise.all([
        makeSocketDirectory(migrationSockets(context.paths.root, id, vm), owner),
        processes.start(id),
      ]);
      const port = await this.#portOf(files, id);
      const ports = [{ from: port, to: port }];
      await context.firewall.open({ what: openingOf(id), ports, from: [...peer.addresses] });
      await context.record(
        'relay.opened',
        id,
        `takes the streams of ${vm} from ${peer.name} on port ${port}`,
      );
      this.#watch(grant);
      return port;
    } catch (error) {
      await this.#end(id);
      throw error;
    }
  }

  async #portOf(files: RelayFiles, id: string): Promise<number> {
    const until = Date.now() + (this.#parts.startMs ?? START_MS);
    while (Date.now() < until) {
      const status = await files.status.read();
      if (status?.failure != null) throw notStarted(id, status.failure);
      if (status?.port != null) return status.port;
      await new Promise((resolve) => setTimeout(resolve, START_LOOK_MS));
    }
    throw notStarted(id, 'it did not answer in time');
  }

  #watch(grant: Grant): void {
    this.#watched.set(grant.id, grant);
    this.#timer ??= setInterval(() => void this.#look(), this.#parts.lookMs ?? LOOK_MS).unref();
  }

  async #look(): Promise<void> {
    const { processes, context } = this.#parts;
    for (const grant of [...this.#watched.values()]) {
      const { id } = grant;
      await this.#inTurn(id, async () => {
        const status = await new RelayFiles(context.paths, id).status.read();
        if (status !== undefined && !status.ended && (await processes.isRunning(id))) return;
        if (!this.#watched.has(id)) return;
        await this.#tellCutOff(grant, status);
        await this.#end(id, status?.cutOff ?? undefined);
      }).catch((error: unknown) =>
        context.log.error({ id, reason: describeError(error) }, 'cannot look at a relay'),
      );
    }
  }

  /** Ends whatever there is of a relay; that its source was cut off is kept until the grant goes. */
  async #end(id: string, cutOff?: string): Promise<void> {
    const { context, processes } = this.#parts;
    const files = new RelayFiles(context.paths, id);
    const order = await files.order.read().catch(() => undefined);
    const opened = (await context.firewall.opened()).includes(openingOf(id));
    const grant = order?.grant ?? this.#watched.get(id);
    const watched = this.#watched.delete(id);
    if (this.#watched.size === 0) {
      clearInterval(this.#timer);
      this.#timer = undefined;
    }
    if (order === undefined && !opened && !watched) return await files.remove();
    await processes.stop(id);
    if (grant !== undefined) {
      const status = await files.status.read().catch(() => undefined);
      // Cut off in the moment in which the grant goes.
      if (cutOff === undefined && watched) await this.#tellCutOff(grant, status);
      await removeSocketDirectory(migrationSockets(context.paths.root, id, grant.vm?.name ?? ''));
    }
    await context.firewall.close(openingOf(id));
    if (cutOff === undefined) await files.remove();
    else await files.order.remove();
    await context.record(
      'relay.closed',
      id,
      cutOff === undefined ? 'its sockets are gone' : 'its source was cut off',
    );
  }

  async #tellCutOff({ id, peer, vm }: Grant, status: RelayStatus | undefined): Promise<void> {
    if (status?.cutOff == null) return;
    const message = `${peer.name} was cut off while ${vm?.name ?? 'a VM'} came from it: ${status.cutOff}`;
    await this.#parts.context.record('migration.cut_off', id, message);
  }

  async #otherXml({ id, peer }: Grant, vm: string): Promise<TrustError> {
    const message = `${peer.name} offered another definition of ${vm} than was granted`;
    await this.#parts.context.record('migration.cut_off', id, message);
    return new TrustError(
      'migration.other_xml',
      'denied',
      `cannot take VM ${vm}: its definition is not the one that was granted`,
      { context: { id, vm }, hint: 'If the VM was changed meanwhile, begin the migration again.' },
    );
  }

  #inTurn<T>(id: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(id) ?? Promise.resolve()).then(work, work);
    const settled = turn
      .catch(() => {})
      .finally(() => {
        if (this.#turns.get(id) === settled) this.#turns.delete(id);
      });
    this.#turns.set(id, settled);
    return turn;
  }
}

function openingOf(id: string): string {
  return `${PREFIX}${id.replaceAll('-', '')}`;
}

/** Why a definition is not to be started here in the name of that VM; null where it may be. */
function whyUndue(xml: string, vm: { readonly name: string; readonly uuid: string }): string | null {
  try {
    const defined = definedVm(xml);
    if (defined === null || defined.name !== vm.name || defined.uuid !== vm.uuid.toLowerCase())
      return 'its definition is that of another VM';
    const undue = undueParts(xml);
    return undue.length === 0 ? null : `its definition has what no VM has business with: ${undue.join(', ')}`;
  } catch (error) {
    return describeError(error);
  }
}

function noArrival(id: string): TrustError {
  return new TrustError(
    'migration.no_arrival',
    'denied',
    `cannot take the VM of migration ${id}: the grant here is not that of its destination`,
    { context: { id } },
  );
}

function wasCutOff(id: string, reason: string): TrustError {
  return new TrustError('migration.cut_off', 'denied', reason, { context: { id } });
}

function notStarted(id: string, reason: string): TrustError {
  return new TrustError(
    'relay.not_started',
    'failed',
    `cannot start the relay of migration ${id}: ${reason}`,
    {
      context: { id },
      hint: `See on the destination: journalctl -u virt-trust-relay-${id}`,
    },
  );
}
