import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, type Instant, SECOND } from '@virt-trust/base/instant.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import type { Grant, GrantState } from '@virt-trust/contract/model/grant.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { AskedOperation, AskingPeer, Grants, PeerDoorControl, PeerGuests } from '../ports/grants.ts';
import { Document } from '../state/document.ts';
import { BoundedEvents } from './bounded-events.ts';
import { GrantOpenings } from './grant-openings.ts';
import { comesFrom, type HeldGrant, HeldGrants, isOpen, judge, requireRoom, requireSound } from './judge.ts';

export interface HostGrantsParts {
  readonly context: Pick<AgentContext, 'paths' | 'mode' | 'keys' | 'firewall' | 'clock' | 'log' | 'record'>;
  /** Whether the migration of a grant, begun on this host as the source, is over. */
  readonly isOver: (grant: Grant) => Promise<boolean>;
  /** Whether streams of a grant run on this host as the destination. */
  readonly isRunning: (id: string) => Promise<boolean>;
  /** Ends all that a grant had opened on this host. */
  readonly release: (id: string) => Promise<void>;
  /** How often what is over is looked for. */
  readonly lookMs?: number;
}

const REFUSALS_TOLD_PER_MINUTE = 6;

const MIGRATION_OVER = 'its migration is over';

/**
 * The grants of this host, durable, each bound to the manager that gave it. The peer door is open as long as there is
 * one, and the firewall for the addresses of its peer.
 */
export class HostGrants implements Grants {
  readonly #parts: HostGrantsParts;
  readonly #document: Document<typeof HeldGrants>;
  readonly #openings: GrantOpenings;
  readonly #refusals: BoundedEvents;
  #held: ReadonlyMap<string, HeldGrant> = new Map();
  /** Those that are about to go. */
  readonly #ended = new Set<string>();
  #door: PeerDoorControl | undefined;
  /** The door's, while it is open. */
  #port: number | undefined;
  #timer: NodeJS.Timeout | undefined;
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: HostGrantsParts) {
    const { context, release } = parts;
    this.#parts = parts;
    this.#document = new Document(
      context.paths.grants,
      HeldGrants,
      `Remove ${context.paths.grants}: grants are given anew for each migration.`,
    );
    this.#openings = new GrantOpenings(context, release);
    this.#refusals = new BoundedEvents(
      (subject, message) => void context.record('grant.refused', subject, message),
      context.clock,
      REFUSALS_TOLD_PER_MINUTE,
    );
  }

  start(door: PeerDoorControl): Promise<void> {
    return this.#inTurn(async () => {
      this.#door = door;
      this.#held = await this.#read();
      await this.#openings.forgetAllBut(this.#held.keys());
      await this.#look();
    });
  }

  put(grant: Grant, manager: SpkiPin): Promise<GrantState> {
    return this.#inTurn(async () => {
      const { clock, keys, record } = this.#parts.context;
      const before = this.#held.get(grant.id);
      if (before !== undefined && before.manager !== manager) throw notYours(grant.id);
      requireSound(grant, keys(), clock.now());
      const after = { grant, manager, begun: before?.begun ?? false };
      const was = this.#held;
      const held = new Map(was).set(grant.id, after);
      requireRoom(held, grant.id, manager);
      await this.#keep(held);
      try {
        await this.#serve();
      } catch (error) {
        await this.#keep(was);
        throw error;
      }
      await this.#openings.open(grant, this.#port ?? 0);
      if (JSON.stringify(before) !== JSON.stringify(after)) {
        const until = formatInstant(grant.notAfter as Instant);
        const message = `${grant.peer.name} may ask ${grant.operations.join(' ')} until ${until}, by manager ${manager}`;
        await record(before === undefined ? 'grant.opened' : 'grant.changed', grant.id, message);
      }
      return this.#stateOf(after);
    });
  }

  remove(id: string, manager: SpkiPin): Promise<void> {
    return this.#inTurn(async () => {
      const held = this.#held.get(id);
      if (held === undefined) return;
      if (held.manager !== manager) throw notYours(id);
      await this.#drop(new Map([[id, 'its manager took it away']]));
    });
  }

  list(manager?: SpkiPin): GrantState[] {
    return [...this.#held.values()]
      .filter(
        (held) => !this.#ended.has(held.grant.id) && (manager === undefined || held.manager === manager),
      )
      .map((held) => this.#stateOf(held));
  }

  admit(id: string, peer: AskingPeer, asked: AskedOperation): Grant {
    const held = this.#ended.has(id) ? undefined : this.#held.get(id);
    const judgement = judge(held, id, peer, asked, this.#parts.context.clock.now());
    if (judgement.kind === 'admitted') return judgement.grant;
    const { error } = judgement;
    this.#refusals.happened(id, `${peer.pin} at ${peer.address} asked for ${asked.granted}: ${error.code}`);
    throw error;
  }

  find(id: string): Grant | undefined {
    return this.#held.get(id)?.grant;
  }

  begin(id: string): Promise<void> {
    return this.#inTurn(async () => {
      const held = this.#held.get(id);
      if (held === undefined || held.begun) return;
      await this.#keep(new Map(this.#held).set(id, { ...held, begun: true }));
    });
  }

  end(id: string, answered: AbortSignal): void {
    if (!this.#held.has(id)) return;
    this.#ended.add(id);
    const drop = () => {
      this.#inTurn(() => this.#drop(new Map([[id, MIGRATION_OVER]]))).catch((error: unknown) =>
        this.#parts.context.log.error({ id, reason: describeError(error) }, 'cannot take a grant away'),
      );
    };
    if (answered.aborted) drop();
    else answered.addEventListener('abort', drop, { once: true });
  }

  refresh(): Promise<void> {
    return this.#inTurn(() => this.#look());
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.#inTurn(async () => {
      clearInterval(this.#timer);
      const door = this.#door;
      // Nothing opens it again.
      this.#door = undefined;
      this.#port = undefined;
      await door?.close();
    });
  }

  /** Lets go of what is over, and makes good what failed before. */
  async #look(): Promise<void> {
    if (this.#door === undefined) return;
    const { clock, keys, mode } = this.#parts.context;
    const now = clock.now();
    const { managers } = keys();
    const over = new Map<string, string>();
    const cut = new Map(this.#held);
    for (const [id, held] of this.#held) {
      const { grant, begun } = held;
      const isTrusted = managers.isTrusted(held.manager as SpkiPin);
      if (mode === 'observe') over.set(id, 'this host is only looked at');
      // SECURITY: also where a key became a manager's after it was granted something.
      else if (grant.peer.pins.some((pin) => managers.isTrusted(pin as SpkiPin)))
        over.set(id, "its peer's key is a manager's");
      else if (!isTrusted && !begun) over.set(id, 'its manager is none of this host any more');
      else if (!isOpen(held, now)) {
        // What has begun is never cut by the time of its grant.
        if (!begun) over.set(id, 'it expired unused');
        else if (!(await this.#asked(this.#parts.isRunning(id), true)))
          over.set(id, 'nobody said that it is over');
      } else if (begun && grant.role === 'source' && (await this.#asked(this.#parts.isOver(grant), false)))
        over.set(id, MIGRATION_OVER);
      // A migration that runs may still tell how it does; nothing else.
      else if (!isTrusted && now < grant.notAfter)
        cut.set(id, { ...held, grant: { ...grant, notAfter: now } });
    }
    if ([...cut.values()].some((held) => this.#held.get(held.grant.id) !== held)) await this.#keep(cut);
    await this.#drop(over);
    await this.#openings.retry(this.#port ?? 0, [...this.#held.values()]);
  }

  /** What another part of the agent says; where it can't be asked, what cuts and closes nothing. */
  async #asked(question: Promise<boolean>, otherwise: boolean): Promise<boolean> {
    try {
      return await question;
    } catch (error) {
      this.#parts.context.log.warn({ reason: describeError(error) }, 'cannot ask after a migration');
      return otherwise;
    }
  }

  /** Takes grants away, each for the reason that it is told with: first the permission, then what it had opened. */
  async #drop(reasons: ReadonlyMap<string, string>): Promise<void> {
    const { log, record } = this.#parts.context;
    const dropped = [...reasons].filter(([id]) => this.#held.has(id));
    if (dropped.length > 0) await this.#keep(new Map([...this.#held].filter(([id]) => !reasons.has(id))));
    try {
      await this.#serve();
    } catch (error) {
      // Who holds a grant is not let down because of it: it is tried again.
      log.error({ reason: describeError(error) }, 'cannot open the peer door');
    }
    for (const [id, reason] of dropped) {
      this.#ended.delete(id);
      await this.#openings.close(id);
      await record('grant.closed', id, reason);
    }
  }

  /** Opens or closes the door, whichever the grants say; cuts off those who have none any more. */
  async #serve(): Promise<void> {
    const door = this.#door;
    if (door === undefined)
      throw new TrustError('grant.stopping', 'unavailable', 'cannot open the peer door: the agent ends');
    if (this.#held.size === 0) {
      this.#port = undefined;
      clearInterval(this.#timer);
      this.#timer = undefined;
      await door.close();
      return;
    }
    this.#timer ??= setInterval(
      () => {
        this.refresh().catch((error: unknown) =>
          this.#parts.context.log.error({ reason: describeError(error) }, 'cannot look at the grants'),
        );
      },
      this.#parts.lookMs ?? 5 * SECOND,
    ).unref();
    if (this.#port === undefined) this.#port = await door.open(this.#guests());
    else door.refresh();
  }

  #guests(): PeerGuests {
    const open = () => {
      const now = this.#parts.context.clock.now();
      return [...this.#held.values()].filter((held) => isOpen(held, now)).map(({ grant }) => grant);
    };
    return {
      pins: () =>
        new PinSet(
          'agent',
          open().flatMap(({ peer }) => peer.pins),
        ),
      grantsOf: (pin) => open().filter(({ peer }) => peer.pins.includes(pin)).length,
      admitsAddress: (remoteAddress) => open().some((grant) => comesFrom(grant, remoteAddress)),
      refused: (subject, message) => this.#refusals.happened(subject, message),
    };
  }

  async #keep(held: ReadonlyMap<string, HeldGrant>): Promise<void> {
    if (held.size === 0) await this.#document.remove();
    else await this.#document.write({ grants: [...held.values()] });
    this.#held = held;
  }

  async #read(): Promise<ReadonlyMap<string, HeldGrant>> {
    const { log } = this.#parts.context;
    try {
      const { grants } = (await this.#document.read()) ?? { grants: [] };
      return new Map(grants.map((held) => [held.grant.id, held]));
    } catch (error) {
      // SECURITY: a file that can't be read grants nothing.
      log.error({ reason: describeError(error) }, 'the grants are lost');
      await this.#document.remove();
      return new Map();
    }
  }

  #stateOf({ grant }: HeldGrant): GrantState {
    return { id: grant.id, port: this.#port ?? grant.peer.port, notAfter: grant.notAfter };
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work, work);
    this.#last = turn.catch(() => {});
    return turn;
  }
}

function notYours(id: string): TrustError {
  return new TrustError('grant.not_yours', 'denied', `cannot change grant ${id}: another manager gave it`, {
    context: { id },
  });
}
