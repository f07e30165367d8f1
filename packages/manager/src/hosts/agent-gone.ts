import { setTimeout as delay } from 'node:timers/promises';
import type { HostChannel } from './channels.ts';

const LOOK_MS = 100;
/** Half a minute: an agent that stays is no reason to keep its host. */
const MOST_LOOKS = 300;

const systemSleep = (ms: number, signal: AbortSignal) => delay(ms, undefined, { signal });

/**
 * Ends once the agent of a removed host has gone. It answers before it takes itself away: a host that was added again
 * meanwhile would lose its new program, or have its new service stopped.
 */
export async function agentGone(
  channel: Pick<HostChannel, 'state'>,
  signal: AbortSignal,
  sleep: (ms: number, signal: AbortSignal) => Promise<void> = systemSleep,
): Promise<void> {
  for (let look = 0; look < MOST_LOOKS && channel.state.kind === 'up'; look++) await sleep(LOOK_MS, signal);
}
