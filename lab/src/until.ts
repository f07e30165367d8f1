import { setTimeout as delay } from 'node:timers/promises';
import { TrustError } from '@virt-trust/base/error.ts';

/**
 * Asks until the answer is not undefined, for what the kernel announces by no event; throws `lab.timeout`
 * with `what` after `timeout` milliseconds.
 */
export async function until<Value>(
  what: string,
  timeout: number,
  ask: () => Promise<Value | undefined> | Value | undefined,
): Promise<Value> {
  const deadline = performance.now() + timeout;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > deadline) {
      throw new TrustError('lab.timeout', 'unavailable', `cannot ${what}: nothing after ${timeout / 1000} s`);
    }
    await delay(25);
  }
}
