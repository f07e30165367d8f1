import { setTimeout as delay } from 'node:timers/promises';
import { TrustError } from '@virt-trust/base/error.ts';

const SHORTEST_MS = 25;
const LONGEST_MS = 500;

/**
 * Asks until the answer is not undefined, for what the kernel announces by no event; throws `lab.timeout`
 * with `what` after `timeout` milliseconds.
 */
export async function until<Value>(
  what: string,
  timeout: number,
  ask: () => Promise<Value | undefined> | Value | undefined,
): Promise<Value> {
  const began = performance.now();
  for (;;) {
    const asked = performance.now();
    const answer = await ask();
    if (answer !== undefined) return answer;
    const now = performance.now();
    if (now - began > timeout) {
      throw new TrustError('lab.timeout', 'unavailable', `cannot ${what}: nothing after ${timeout / 1000} s`);
    }
    // Who runs a program to ask takes no more than a third of a core, and less the longer there is nothing.
    const pause = Math.max(2 * (now - asked), (now - began) / 100);
    await delay(Math.min(LONGEST_MS, Math.max(SHORTEST_MS, pause)));
  }
}
