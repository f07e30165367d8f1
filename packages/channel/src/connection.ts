import type { ClientHttp2Session } from 'node:http2';
import { isTrustError, type TrustError } from '@virt-trust/base/error.ts';
import type { SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { backOffDelay } from './backoff.ts';
import { closedError, cutError, downError } from './connection-errors.ts';
import { type ChannelTarget, CONNECTION_DEFAULTS, type ConnectionOptions } from './connection-options.ts';
import { type ChannelSession, dialChannel } from './dial.ts';
import { dialFirst } from './dial-first.ts';
import {
  type ChannelRequest,
  type ChannelResponse,
  type ChannelStream,
  exchange,
  openStream,
} from './exchange.ts';
import { answersPing, keepAlive } from './keepalive.ts';
import { aborted } from './sleep.ts';

export type ConnectionState =
  | { readonly kind: 'connecting' }
  /** `host`: where the agent answered. */
  | { readonly kind: 'up'; readonly peerPin: SpkiPin; readonly group: string; readonly host: string }
  /** `retryInMs` is 0 while it is being dialled again. */
  | { readonly kind: 'down'; readonly reason: TrustError; readonly retryInMs: number }
  | { readonly kind: 'closed' };

const MAX_RESENDS = 3;
/** How long a channel may take to answer while its agent is heard of elsewhere. */
const ANNOUNCED_ANSWER_MS = 2000;

/** A manager's lasting connection to one agent: dials again when it breaks, and changes keys without a gap. */
export class ChannelConnection {
  readonly #options: Required<Omit<ConnectionOptions, 'target'>>;
  readonly #closed = new AbortController();
  readonly #listeners = new Set<(state: ConnectionState) => void>();
  readonly #sessions = new Set<ChannelSession>();
  #target: ChannelTarget;
  /** Where the agent made itself known, tried once; and where it answered last. */
  #announced: string | undefined;
  #last: string | undefined;
  #state: ConnectionState = { kind: 'connecting' };
  #current: ChannelSession | undefined;
  /** Dials since the agent last answered. */
  #failures = 0;
  /** Aborted when there is a reason to look again: the session ended, or another took its place. */
  #changed = new AbortController();
  #replacing: Promise<unknown> = Promise.resolve();

  constructor({ target, ...options }: ConnectionOptions) {
    this.#target = target;
    this.#options = { ...CONNECTION_DEFAULTS, ...options };
    void this.#run();
  }

  get state(): ConnectionState {
    return this.#state;
  }

  /** Calls the listener at each change of state; returns what stops it. */
  onState(listener: (state: ConnectionState) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Resolves when the channel is up; throws `channel.closed` or the signal's own reason. */
  async waitUntilUp(signal?: AbortSignal): Promise<void> {
    await this.#settled(signal, (state) => state.kind === 'up' || state.kind === 'closed');
    if (this.#state.kind === 'closed') throw closedError();
  }

  /**
   * Sends a request and reads the whole response. It is sent again only if the agent has certainly not seen it.
   * Throws `channel.down` while there is no channel, and as `exchange` does.
   */
  request(request: ChannelRequest): Promise<ChannelResponse> {
    return this.#send(request, (session) => exchange(session, request, this.#options.maxBodyBytes));
  }

  /** Like `request`, for a response that is read as it comes, such as events. */
  stream(request: ChannelRequest): Promise<ChannelStream> {
    return this.#send(request, (session) => openStream(session, request));
  }

  /**
   * Takes up another identity, set of pins or address: dials anew, sends new requests there, and lets those that run
   * on the old session finish. If the dial fails nothing has changed; throws as `dialChannel` does.
   */
  replace(change: Partial<ChannelTarget>): Promise<void> {
    const replaced = this.#replacing.then(async () => {
      const target = { ...this.#target, ...change };
      const { dialTimeoutMs: timeoutMs } = this.#options;
      // Where it is, which may be another address than the one that is dialled first.
      const host = change.host ?? (this.#state.kind === 'up' ? this.#state.host : target.host);
      const session = await dialChannel({ ...target, host, timeoutMs, signal: this.#closed.signal });
      if (this.#closed.signal.aborted) {
        session.destroy();
        throw closedError();
      }
      this.#target = target;
      this.#adopt(session, host);
    });
    this.#replacing = replaced.catch(() => {});
    return replaced;
  }

  /**
   * The agent was heard of under an address: a channel that does not answer any more is ended, and where there is none
   * it is dialled at once, under that address too.
   */
  async announced(host: string): Promise<void> {
    if (this.#closed.signal.aborted) return;
    const current = this.#current;
    const ping = { answerMs: ANNOUNCED_ANSWER_MS, sleep: this.#options.sleep };
    if (current !== undefined && (await answersPing(current.http2, ping))) return;
    this.#announced = host;
    if (this.#current !== undefined) return;
    if (this.#state.kind === 'down') this.#set({ ...this.#state, retryInMs: 0 });
    this.#changed.abort();
  }

  /** From the next dial on this address is tried first; a session that is up goes on where it is. */
  prefer(host: string): void {
    this.#target = { ...this.#target, host };
  }

  /** Ends it; requests that run are given until the signal is aborted, or none at all without one. */
  async close(signal: AbortSignal = AbortSignal.abort()): Promise<void> {
    this.#current = undefined;
    this.#closed.abort(closedError());
    this.#set({ kind: 'closed' });
    const destroyAll = () => {
      for (const session of this.#sessions) session.destroy();
    };
    const ended = Promise.all([...this.#sessions].map((session) => session.close()));
    if (signal.aborted) destroyAll();
    else signal.addEventListener('abort', destroyAll, { once: true });
    await ended;
    signal.removeEventListener('abort', destroyAll);
  }

  async #run(): Promise<void> {
    const closed = this.#closed.signal;
    while (!closed.aborted) {
      if (this.#changed.signal.aborted) this.#changed = new AbortController();
      const signal = AbortSignal.any([closed, this.#changed.signal]);
      if (this.#current !== undefined) {
        await aborted(signal);
        continue;
      }
      if (this.#state.kind === 'down' && this.#state.retryInMs > 0) {
        const { reason, retryInMs } = this.#state;
        await this.#options.sleep(retryInMs, signal).catch(() => {});
        if (signal.aborted) continue;
        this.#set({ kind: 'down', reason, retryInMs: 0 });
      }
      this.#failures++;
      try {
        const { session, host } = await this.#dialAny(signal);
        if (signal.aborted) {
          session.destroy();
          continue;
        }
        this.#adopt(session, host);
      } catch (error) {
        if (!signal.aborted) this.#goDown(error, this.#failures);
      }
    }
  }

  /** Where the agent is, or else where it may be. */
  async #dialAny(signal: AbortSignal): Promise<{ session: ChannelSession; host: string }> {
    const { otherHosts, dialTimeoutMs: timeoutMs, headStartMs, sleep } = this.#options;
    const heard = [this.#announced, this.#last].filter((host) => host !== undefined);
    this.#announced = undefined;
    const declared = await otherHosts().catch(() => []);
    return dialFirst({
      ...this.#target,
      otherHosts: [...heard, ...declared],
      timeoutMs,
      headStartMs,
      sleep,
      signal,
    });
  }

  #adopt(session: ChannelSession, host: string): void {
    const { http2, peerPin, group } = session;
    const old = this.#current;
    let cause: Error | undefined;
    this.#sessions.add(session);
    http2.on('error', (error) => {
      cause = error;
    });
    http2.once('goaway', () => this.#lost(session, cause));
    http2.once('close', () => {
      this.#sessions.delete(session);
      this.#lost(session, cause);
    });
    const { keepAliveMs, sleep } = this.#options;
    const onAnswer = () => this.#alive(session);
    void keepAlive(http2, { intervalMs: keepAliveMs, answerMs: keepAliveMs, sleep, onAnswer });
    this.#current = session;
    this.#last = host;
    this.#changed.abort();
    this.#set({ kind: 'up', peerPin, group, host });
    if (old !== undefined) void this.#drain(old);
    // It may have ended before its listeners were there.
    if (http2.closed || http2.destroyed) this.#lost(session, cause);
  }

  /** The session takes no more requests; what runs on it goes on. */
  #lost(session: ChannelSession, cause: Error | undefined): void {
    if (this.#current !== session) return;
    this.#current = undefined;
    // The first dial after a session comes at once, even if the agent never answered on it.
    this.#goDown(cause, this.#failures - 1);
    this.#changed.abort();
  }

  #goDown(cause: unknown, failures: number): void {
    const { backOff, randomness } = this.#options;
    const reason = isTrustError(cause) ? cause : cutError(cause);
    this.#set({ kind: 'down', reason, retryInMs: backOffDelay(backOff, failures, randomness) });
  }

  #alive(session: ChannelSession): void {
    if (this.#current === session) this.#failures = 0;
  }

  async #drain(old: ChannelSession): Promise<void> {
    const finished = new AbortController();
    const closing = old.close().then(() => finished.abort());
    const deadline = this.#options.sleep(this.#options.drainMs, finished.signal).then(
      () => old.destroy(),
      () => {},
    );
    await Promise.all([closing, deadline]);
  }

  async #send<T>(request: ChannelRequest, send: (session: ClientHttp2Session) => Promise<T>): Promise<T> {
    for (let resends = 0; ; resends++) {
      const session = await this.#session(request.signal);
      try {
        const result = await send(session.http2);
        this.#alive(session);
        return result;
      } catch (error) {
        if (session.http2.closed || session.http2.destroyed) this.#lost(session, undefined);
        if (!isTrustError(error, 'channel.not_sent') || resends >= MAX_RESENDS) throw error;
      }
    }
  }

  /** The session for a new request; waits while one is being dialled, and no longer. */
  async #session(signal: AbortSignal | undefined): Promise<ChannelSession> {
    await this.#settled(
      signal,
      (state) => state.kind !== 'connecting' && !(state.kind === 'down' && state.retryInMs === 0),
    );
    if (this.#current !== undefined) return this.#current;
    if (this.#state.kind !== 'down') throw closedError();
    throw downError(this.#state.reason);
  }

  async #settled(
    signal: AbortSignal | undefined,
    isSettled: (state: ConnectionState) => boolean,
  ): Promise<void> {
    signal?.throwIfAborted();
    if (isSettled(this.#state)) return;
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const stop = this.onState((state) => {
      if (isSettled(state)) resolve();
    });
    const onAbort = () => reject(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      await promise;
    } finally {
      stop();
      signal?.removeEventListener('abort', onAbort);
    }
  }

  #set(state: ConnectionState): void {
    if (this.#state.kind === 'closed') return;
    this.#state = state;
    for (const listener of [...this.#listeners]) listener(state);
  }
}
