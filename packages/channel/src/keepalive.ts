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
  const { intervalMs, sleep, onAnswer } = options;
  const closed = new AbortController();
  session.once('close', () => closed.abort());
  while (!session.destroyed) {
    if (!(await slept(sleep, intervalMs, closed.signal)) || session.destroyed) return;
    if (await answersPing(session, options)) onAnswer?.();
  }
}

/** Sends one PING; whether it was answered. A session that does not answer is destroyed with `channel.silent`. */
export async function answersPing(
  session: Http2Session,
  { answerMs, sleep }: Pick<KeepAliveOptions, 'answerMs' | 'sleep'>,
): Promise<boolean> {
  if (session.destroyed) return false;
  const over = new AbortController();
  const onClose = () => over.abort();
  session.once('close', onClose);
  let answered = false;
  const sent = session.ping((error) => {
    answered = error === null;
    if (answered) over.abort();
  });
  const silent = await slept(sleep, answerMs, over.signal);
  session.off('close', onClose);
  if (!answered && !session.destroyed && (silent || !sent)) {
    session.destroy(
      new TrustError(
        'channel.silent',
        'unavailable',
        `cannot reach the peer: no answer to PING in ${answerMs} ms`,
      ),
    );
  }
  return answered;
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
