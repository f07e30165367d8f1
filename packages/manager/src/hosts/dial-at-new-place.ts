import { describeError, TrustError } from '@virt-trust/base/error.ts';
import type { JobContext } from '../jobs/job.ts';
import type { Host } from './host.ts';
import type { HostsContext } from './ports.ts';

/** Where a host was said to be, and where it was before; the way back is told from that. */
export interface Move {
  readonly to: Host['channel'];
  readonly from: Host['channel'];
  /** Where ssh went before, where that has changed too. */
  readonly sshFrom: string | null;
  readonly channelOnly: boolean;
}

/** How long a host may take to answer where it is said to be. */
const ANSWER_MS = 30_000;

/** Dials a host where it is said to be; throws `host.not_at_address` with the way back. Its key decides who answers. */
export async function dialAtNewPlace(
  host: Host,
  move: Move,
  context: Pick<HostsContext, 'channels'>,
  job: JobContext,
): Promise<void> {
  await job.step('Dial the host where it is now', async (report) => {
    const { address, port } = move.to;
    // Said anew: where nobody answered it may have been dialled where it was, and have come up there.
    const channel = await context.channels.of({ ...host, channel: move.to });
    await channel.waitUntilUp(job.signal, ANSWER_MS).catch((error: unknown) => {
      job.signal.throwIfAborted();
      const { state: now } = channel;
      throw notThere(host, move, describeError(now.kind === 'down' ? now.reason : error));
    });
    const { state } = channel;
    if (state.kind === 'up' && state.host !== address) {
      throw notThere(host, move, `nobody with its key answers there, its agent answers at ${state.host}`);
    }
    report(`${address} port ${port} has its key`);
  });
}

function notThere(host: Host, { to, from, sshFrom, channelOnly }: Move, reason: string): TrustError {
  const back = [
    `virt-trust host set-address ${host.name} ${from.address}`,
    ...(from.port === to.port ? [] : [`--port ${from.port}`]),
    ...(sshFrom === null ? [] : [`--ssh ${sshFrom}`]),
    ...(channelOnly ? ['--channel-only'] : []),
  ];
  return new TrustError(
    'host.not_at_address',
    'unavailable',
    `cannot find host ${host.name} at ${to.address} port ${to.port}, where it was said to be; before it was at ${from.address} port ${from.port}: ${reason}`,
    { hint: `if that was wrong, go back: ${back.join(' ')}` },
  );
}
