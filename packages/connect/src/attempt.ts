import type { Duplex } from 'node:stream';
import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import type { ServedCertificate } from './served-certificate.ts';

/** How far a probe came; an error says in its code at which of these it failed: `probe.handshake`. */
export type ProbeStep =
  | 'connect'
  | 'vencrypt'
  | 'handshake'
  | 'chain'
  | 'name'
  | 'confirmation'
  | 'auth_list'
  | 'hostname';

/** Where a probe goes and how long it may take. */
export interface ProbeTarget {
  /** The name or address that is dialled. */
  readonly host: string;
  readonly port: number;
  /** For the whole probe, in milliseconds. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
}

const HINTS: Readonly<Record<ProbeStep, string>> = {
  connect: 'look whether the daemon listens there and the firewall lets the port through',
  vencrypt: 'look whether vnc_tls is 1 in qemu.conf and the VM was started since',
  handshake: 'look whether the server speaks TLS on this port, and at its log',
  chain: 'look which authority the server’s certificate is from and which are trusted here',
  name: 'use a name or address that the certificate has, or issue it again with this one',
  confirmation:
    'look whether the server trusts the client certificate’s authority, and at its list of allowed DNs',
  auth_list: 'look at the daemon’s log',
  hostname: 'look at the daemon’s log, and whether auth_tls asks for more than a certificate',
};

/** One probe under way: its step, its sockets, and its one deadline. */
export class Attempt {
  readonly target: ProbeTarget;
  step: ProbeStep = 'connect';
  served: ServedCertificate | undefined;
  #socket: Duplex | undefined;
  #ended: TrustError | undefined;
  #expired = false;

  constructor(target: ProbeTarget) {
    this.target = target;
  }

  /** Whether the deadline or the caller ended it, not the server. */
  get ended(): boolean {
    return this.#ended !== undefined;
  }

  /**
   * Makes the attempt responsible for a socket, in place of one that it wraps: an end of the attempt destroys it
   * with the reason. The wrapped one goes with its wrapper; destroyed by itself it takes Node down.
   */
  own<Socket extends Duplex>(socket: Socket): Socket {
    // Without a listener an error of a socket that nobody reads any more would end the process.
    socket.on('error', () => {});
    this.#socket = socket;
    if (this.#ended !== undefined) socket.destroy(this.#ended);
    return socket;
  }

  /** Ends everything early. */
  abort(error: TrustError): void {
    this.#ended ??= error;
    this.#socket?.destroy(this.#ended);
  }

  /** Ends everything at the deadline: the server is silent, which an error says in its context, too. */
  expire(): void {
    this.#expired = true;
    this.abort(this.failure(`no answer within ${this.target.timeoutMs} ms`));
  }

  close(): void {
    this.#socket?.destroy();
  }

  /** The error for what happened at the present step. */
  failure(reason: string, cause?: unknown): TrustError {
    const { host, port } = this.target;
    const category = this.step === 'connect' ? 'unavailable' : 'failed';
    const context = { host, port, step: this.step, servedPin: this.served?.pin, expired: this.#expired };
    return new TrustError(`probe.${this.step}`, category, `cannot probe ${host} port ${port}: ${reason}`, {
      context,
      hint: HINTS[this.step],
      ...(cause === undefined ? {} : { cause }),
    });
  }
}

/**
 * Runs a probe under its deadline; whatever it throws comes out as `probe.*` with the step it failed at. Its socket is
 * closed at the end, unless one that succeeded is kept.
 */
export async function runAttempt<Evidence>(
  target: ProbeTarget,
  probe: (attempt: Attempt) => Promise<Evidence>,
  { keepOpen = false } = {},
): Promise<Evidence> {
  const attempt = new Attempt(target);
  const cancel = () => attempt.abort(attempt.failure('it was cancelled', target.signal?.reason));
  const timer = setTimeout(() => attempt.expire(), target.timeoutMs);
  target.signal?.addEventListener('abort', cancel, { once: true });
  if (target.signal?.aborted) cancel();
  let kept = false;
  try {
    const evidence = await probe(attempt);
    kept = keepOpen;
    return evidence;
  } catch (error) {
    if (isTrustError(error) && error.code.startsWith('probe.')) throw error;
    throw attempt.failure(describeError(error), error);
  } finally {
    clearTimeout(timer);
    target.signal?.removeEventListener('abort', cancel);
    if (!kept) attempt.close();
  }
}
