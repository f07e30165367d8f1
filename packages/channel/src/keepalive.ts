import type { Http2Session } from 'node:http2';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Sleep } from './sleep.ts';

export interface KeepAliveOptions {
  /** Time between an answer and the next PING. */
  readonly intervalMs: number;
  /** How long the answer may take until the cable counts as cut. */
  readonly answerMs: number;
  readonly sleep: Sleep;
  /** Called with each answer. */
  readonly onAnswer?: () => void;
}

/**
 * Sends PING frames (RFC 9113 §6.7) until the session closes, and destroys the session with `channel.silent` when
 * one stays unanswered: a cut cable says nothing by itself.
 */
export async function keepAlive(session: Http2Session, options: KeepAliveOptions): Promise<void> {
  const { intervalMs, answerMs, sleep, onAnswer } = options;
  const closed = new AbortController();
  session.once('close', () => closed.abort());
  while (!session.destroyed) {
    if (!(await slept(sleep, intervalMs, closed.signal)) || session.destroyed) return;
    const answered = new AbortController();
    const sent = session.ping((error) => {
      if (error === null) answered.abort();
    });
    const silent = await slept(sleep, answerMs, AbortSignal.any([closed.signal, answered.signal]));
    if (answered.signal.aborted) {
      onAnswer?.();
    } else if (!session.destroyed && (silent || !sent)) {
      session.destroy(
        new TrustError(
          'channel.silent',
          'unavailable',
          `cannot reach the peer: no answer to PING in ${answerMs} ms`,
        ),
      );
    }
  }
}

/** Whether the whole time passed; false when the signal ended it. */
async function slept(sleep: Sleep, milliseconds: number, signal: AbortSignal): Promise<boolean> {
  try {
    await sleep(milliseconds, signal);
    return true;
  } catch {
    return false;
  }
}
