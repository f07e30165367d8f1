import { Readable } from 'node:stream';
import type { ServerSentEvent } from './handlers.ts';

const RETRY_MILLISECONDS = 2000;

/**
 * Events as a text/event-stream (WHATWG HTML §9.2), with a comment as heartbeat while there is none, until the events or
 * `signal` end. It is read as fast as the client takes it; what a slow client misses is up to where the events come from.
 */
export function eventStream(
  events: AsyncIterable<ServerSentEvent>,
  heartbeatMilliseconds: number,
  signal: AbortSignal,
): Readable {
  return Readable.from(encode(events, heartbeatMilliseconds, signal), { objectMode: false });
}

async function* encode(
  events: AsyncIterable<ServerSentEvent>,
  heartbeat: number,
  signal: AbortSignal,
): AsyncGenerator<string> {
  yield `retry: ${RETRY_MILLISECONDS}\n\n`;
  const iterator = events[Symbol.asyncIterator]();
  const { promise: aborted, resolve: abort } = Promise.withResolvers<'aborted'>();
  const onAbort = (): void => abort('aborted');
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    let next = iterator.next();
    // Never left without a handler: a stream that ends while waiting must not leave an unhandled rejection.
    next.catch(() => {});
    while (true) {
      const beat = timer(heartbeat);
      const outcome = await Promise.race([next, beat.promise, aborted]).finally(beat.cancel);
      if (outcome === 'aborted') return;
      if (outcome === 'beat') {
        yield ': still here\n\n';
        continue;
      }
      if (outcome.done === true) return;
      yield frame(outcome.value);
      next = iterator.next();
      next.catch(() => {});
    }
  } finally {
    signal.removeEventListener('abort', onAbort);
    // Not awaited: the iterator may wait for something that only its own signal ends.
    iterator.return?.().catch(() => {});
  }
}

/** One event. JSON text has no line break, so one data line is enough. */
function frame({ id, event, data }: ServerSentEvent): string {
  return `id: ${id}\nevent: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

function timer(milliseconds: number): { promise: Promise<'beat'>; cancel: () => void } {
  const { promise, resolve } = Promise.withResolvers<'beat'>();
  const handle = setTimeout(() => resolve('beat'), milliseconds);
  return { promise, cancel: () => clearTimeout(handle) };
}
