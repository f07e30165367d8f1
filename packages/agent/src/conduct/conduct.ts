import { systemClock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { runHostCommand } from '@virt-trust/check/host/host-command.ts';
import {
  peerCreateMigration,
  peerEndMigration,
  peerGetVmState,
} from '@virt-trust/contract/agent/peer-operations.ts';
import type { MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import { type PeerClient, peerClient } from '../peers/peer-client.ts';
import { migrationSockets, removeSocketDirectory } from '../relay/sockets.ts';
import { openStreams, type SourceStreams } from '../relay/source-streams.ts';
import { IdentityStore } from '../state/identity.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { openAccess } from './access.ts';
import { Conduction } from './conduction.ts';
import { type Commission, ConductFiles } from './files.ts';
import { hintFor } from './hints.ts';
import type { Journal, Outcome } from './outcome.ts';
import { type StreamUris, tcpStreams } from './parameters.ts';
import type { ConductionParts, PeerDoor } from './parts.ts';
import { progressAtEnd } from './progress.ts';
import { connectionOfStream, tlsOfStream } from './proof.ts';
import { recover } from './recovery.ts';
import { MigrationWatch } from './watch.ts';

const PEER_MS = 15_000;
/** The destination starts a relay meanwhile. */
const PEER_BEGIN_MS = 45_000;
const CANCEL_LOOK_MS = 200;

/** Conducts the migration whose order lies on this host, or brings to an end what a process before this one began. */
export async function conduct(id: string, { root, log }: { root?: string; log: Log }): Promise<void> {
  const paths = agentPaths(root);
  const files = new ConductFiles(paths, id);
  const commission = await files.readCommission();
  if (commission === undefined)
    throw new TrustError('migration.unknown', 'not-found', `cannot conduct migration ${id}: it has no order`);
  const conductor = new Conductor(paths, files, commission, log);
  try {
    await conductor.run();
  } finally {
    await conductor.close();
  }
}

class Conductor {
  readonly #paths: AgentPaths;
  readonly #files: ConductFiles;
  readonly #commission: Commission;
  readonly #log: Log;
  readonly #peer: PeerClient | null = null;
  #streams: SourceStreams | undefined;
  #relayPort: number | null = null;
  #identity: IdentityStore | undefined;
  #status: MigrationStatus;
  #journal: Journal = { step: 'connect', uuid: null, finishSent: false, wasPaused: false, isPostCopy: false };
  #trouble: string | null = null;
  #cancelled = false;
  #timer: NodeJS.Timeout | undefined;
  #writing: Promise<void> = Promise.resolve();

  constructor(paths: AgentPaths, files: ConductFiles, commission: Commission, log: Log) {
    this.#paths = paths;
    this.#files = files;
    this.#commission = commission;
    this.#log = log;
    const { id, vm, mode, peerAgent } = commission.order;
    this.#status = {
      id,
      vm,
      mode,
      phase: 'running',
      step: 'connect',
      runsOn: null,
      progress: null,
      proof: null,
      error: null,
    };
    if (peerAgent && commission.grant !== null)
      this.#peer = peerClient(commission.grant, () => this.#channelIdentity());
  }

  async run(): Promise<void> {
    const before = await this.#files.readReport();
    if (before !== undefined && before.status.phase !== 'running') return;
    this.#timer = setInterval(() => void this.#lookForCancel(), CANCEL_LOOK_MS);
    if (this.#peer !== null)
      this.#identity = (await IdentityStore.open(this.#paths.identity, systemRandomness)).store;
    let outcome: Outcome;
    if (before === undefined) {
      outcome = await new Conduction(await this.#parts()).run();
    } else {
      this.#status = before.status;
      this.#journal = before.journal;
      this.#log.warn(
        { id: this.#status.id, step: before.journal.step },
        'goes on with a migration whose conductor died',
      );
      outcome = await recover(before.journal, await this.#parts());
    }
    await this.#end(outcome);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#streams?.close();
    const { mode, id, vm } = this.#commission.order;
    // Also what a process before this one, which was killed, left.
    if (mode === 'pinned') await removeSocketDirectory(migrationSockets(this.#paths.root, id, vm));
    this.#peer?.close();
  }

  async #end(outcome: Outcome): Promise<void> {
    const { phase, step, runsOn, error } = outcome;
    const told =
      error === null ? null : { message: clean(error.message), hint: error.hint ?? hintFor(error.message) };
    // The streams' end first, so that the relay there sees them end and not break.
    await this.#streams?.close();
    await this.#tellPeer(phase === 'done' ? 'done' : `${phase}: ${error?.message ?? ''}`.slice(0, 1000));
    const used = this.#streams?.used() ?? null;
    const proof =
      used === null
        ? this.#status.proof
        : {
            tlsCreds: '',
            tlsHostname: '',
            channel: { peerPin: used.peerPin, group: used.group, streams: used.streams },
          };
    const progress =
      phase === 'done' && this.#status.progress !== null
        ? progressAtEnd(this.#status.progress)
        : this.#status.progress;
    await this.#write({ ...this.#status, phase, step, runsOn, error: told, proof, progress });
  }

  async #tellPeer(outcome: string): Promise<void> {
    if (this.#peer === null) return;
    const { id } = this.#commission.order;
    const request = { params: { id }, body: { outcome: clean(outcome) } };
    await this.#peer.api
      .call(peerEndMigration, request, { signal: AbortSignal.timeout(PEER_MS) })
      .catch((error: unknown) =>
        this.#log.warn({ reason: describeError(error) }, 'the peer was not told of the end'),
      );
  }

  async #parts(): Promise<ConductionParts> {
    const { order } = this.#commission;
    const tls = await this.#files.readClientFiles();
    const access = {
      at: this.#paths.at,
      clock: systemClock,
      tls,
      peer: order.destination.kind === 'peer' ? async () => await (await this.#openStreams()).rpc() : null,
    };
    return {
      order,
      openSource: () => openAccess(order.source, order.from, access),
      openDestination: () => openAccess(order.destination, order.to, access),
      peer: this.#peerDoor(),
      streams: () => this.#streamUris(),
      journal: (journal) => this.#note(journal),
      isCancelled: () => this.#cancelled,
      watch: (source, domain) =>
        new MigrationWatch({
          order,
          source,
          domain,
          proof: {
            tls: () => tlsOfStream(source, domain),
            connection: () => connectionOfStream(runHostCommand, order),
          },
          now: () => performance.now(),
          isCancelled: () => this.#cancelled,
          onSeen: async ({ progress, proof }) =>
            await this.#write({
              ...this.#status,
              progress: progress ?? this.#status.progress,
              proof: proof ?? this.#status.proof,
            }),
        }),
      streamTrouble: () => this.#trouble,
      now: () => performance.now(),
      sleep: (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds)),
    };
  }

  #peerDoor(): PeerDoor | null {
    const peer = this.#peer;
    if (peer === null) return null;
    const params = { id: this.#commission.order.id };
    return {
      begin: async ({ xml, persistentXml }) => {
        const body = { xml, persistentXml };
        const signal = AbortSignal.timeout(PEER_BEGIN_MS);
        this.#relayPort = (await peer.api.call(peerCreateMigration, { params, body }, { signal })).relayPort;
      },
      vmState: () => peer.api.call(peerGetVmState, { params }, { signal: AbortSignal.timeout(PEER_MS) }),
    };
  }

  async #streamUris(): Promise<StreamUris> {
    const { order } = this.#commission;
    if (order.stream !== null) return tcpStreams(order.stream);
    const streams = await this.#openStreams();
    return {
      source: streams.streamUri,
      destination: streams.destinationStreamUri,
      sourceDisks: streams.disksUri,
      destinationDisks: streams.destinationDisksUri,
    };
  }

  async #openStreams(): Promise<SourceStreams> {
    const { order, grant, qemu } = this.#commission;
    if (grant === null || this.#relayPort === null)
      throw new TrustError(
        'migration.no_relay',
        'failed',
        `cannot migrate ${order.vm} in mode ${order.mode}: the agent on ${order.to} has no relay for it`,
      );
    this.#streams ??= await openStreams({
      id: order.id,
      vm: order.vm,
      root: this.#paths.root,
      qemu,
      peer: { ...grant.peer, port: this.#relayPort },
      identity: this.#channelIdentity(),
      disks: order.options.copyStorage !== 'none' && !order.options.offline,
      streams: grant.streams,
      onBroken: (reason) => {
        this.#trouble ??= reason;
      },
    });
    return this.#streams;
  }

  #channelIdentity() {
    if (this.#identity === undefined)
      throw new TrustError(
        'migration.identity',
        'internal',
        'cannot dial the peer: the identity is not read',
      );
    return this.#identity.current;
  }

  async #note(journal: Journal): Promise<void> {
    this.#journal = journal;
    await this.#write({ ...this.#status, step: journal.step });
  }

  /** One after the other, so that what is told later is what stays. */
  async #write(status: MigrationStatus): Promise<void> {
    this.#status = status;
    this.#writing = this.#writing
      .catch(() => {})
      .then(() => this.#files.writeReport({ status: this.#status, journal: this.#journal }));
    await this.#writing;
  }

  async #lookForCancel(): Promise<void> {
    this.#cancelled ||= await this.#files.isCancelRequested();
  }
}

/** Text of libvirt's and of peers, fit for the status. */
function clean(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is replaced
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, ' ').slice(0, 8000);
}
