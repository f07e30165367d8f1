import { setTimeout as delay } from 'node:timers/promises';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';

/** A table of our own, there for a moment only. */
const TABLE = 'inet virt_trust_hold';
/** After this the kernel lets connections in again by itself, whatever became of us. */
const LONGEST_SECONDS = 8;
/** How long handshakes that began before get to come to their end: on a host whose cores are taken one lasts a second. */
const SETTLE_MS = 1500;

type Pause = (milliseconds: number) => Promise<unknown>;

/**
 * Runs `work` while no new TCP connection comes to the ports, and after those that were being made had a moment. A
 * client notices a wait of three seconds at most: its kernel sends the first packet again. Where there is no nftables it just works.
 */
export async function withoutNewConnections<T>(
  run: RunHostCommand,
  ports: readonly number[],
  work: () => Promise<T>,
  pause: Pause = delay,
): Promise<T> {
  if (ports.length === 0 || !(await hold(run, ports))) return work();
  try {
    await pause(SETTLE_MS);
    return await work();
  } finally {
    await letGo(run);
  }
}

/** False where it can't be done: no nftables, or a kernel without. */
async function hold(run: RunHostCommand, ports: readonly number[]): Promise<boolean> {
  const elements = ports.map((port) => `${port} timeout ${LONGEST_SECONDS}s`).join(', ');
  // One transaction; the first line makes sure that there is something to delete.
  const rules = `add table ${TABLE}; delete table ${TABLE}; add table ${TABLE}; \
add set ${TABLE} ports { type inet_service; flags timeout; elements = { ${elements} }; }; \
add chain ${TABLE} input { type filter hook input priority -310; policy accept; }; \
add rule ${TABLE} input tcp dport @ports tcp flags & (syn | ack) == syn drop`;
  try {
    await run('nft', [rules]);
    return true;
  } catch {
    return false;
  }
}

async function letGo(run: RunHostCommand): Promise<void> {
  // What is left where this fails holds nothing after a few seconds, and the next hold deletes it.
  await run('nft', [`delete table ${TABLE}`]).catch(() => {});
}
