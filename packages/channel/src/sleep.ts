import { setTimeout } from 'node:timers/promises';

/** Waits; rejects with the signal's reason as soon as that is aborted. A port, so that tests decide when time passes. */
export type Sleep = (milliseconds: number, signal: AbortSignal) => Promise<void>;

/** Waits by the machine's own timers. */
export const systemSleep: Sleep = (milliseconds, signal) => setTimeout(milliseconds, undefined, { signal });

/** Resolves when the signal is aborted. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
