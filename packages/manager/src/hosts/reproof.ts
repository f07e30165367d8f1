import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant, instant, MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import { systemSleep } from '@virt-trust/channel/sleep.ts';
import { getObservedState, getStatus } from '@virt-trust/contract/agent/operations.ts';
import type { ServedEndpoint } from '@virt-trust/contract/model/observed-state.ts';
import type { JobContext } from '../jobs/job.ts';
import type { HostChannel } from './channels.ts';
import { openChannel } from './following.ts';
import type { HostsContext } from './ports.ts';
import { requireHost } from './require-host.ts';

/** How long the agent may take until it has made a handshake at every endpoint. */
const LOOK_TIMEOUT_MS = 2 * MINUTE;
const PAUSE_MS = SECOND;
/** What a person has to do at a VM is said, and fails nothing. */
const GOOD: ReadonlySet<ServedEndpoint['state']> = new Set(['as-desired', 'needs-restart']);

/** A new session of the channel, and when it began by the host's clock, which says when each look was. */
export interface Reestablished {
  readonly words: string;
  readonly since: number;
}

/** Ends the channel's TLS session and makes another, both sides proving their keys anew. */
export async function reestablish(
  hostName: string,
  context: HostsContext,
  job: JobContext,
): Promise<Reestablished> {
  const host = await requireHost(hostName, context);
  await openChannel(hostName, context, job.signal);
  try {
    await context.channels.redial(host);
  } catch (error) {
    throw new TrustError(
      'host.reconnect_failed',
      'unavailable',
      `cannot dial the agent of host ${hostName} anew: ${describeError(error)}`,
      { cause: error, hint: 'see that its agent runs: systemctl status virt-trust-agent' },
    );
  }
  const channel = await openChannel(hostName, context, job.signal);
  const status = await channel.agent.call(getStatus, {}, { signal: job.signal });
  const { state } = channel;
  const words =
    state.kind === 'up'
      ? `a new session with ${state.host}: TLS 1.3, ${state.group}, agent ${status.version} known by ${status.pin}`
      : state.kind;
  return { words, since: status.now };
}

/**
 * Waits until the agent has made a real handshake at every endpoint since then, and makes the manager's own; throws
 * `host.not_proven` where one is not as desired. The agent looks by itself after each application.
 */
export async function proveAgain(
  hostName: string,
  since: number,
  channel: HostChannel,
  context: HostsContext,
  job: JobContext,
  report: (detail: string) => void,
): Promise<void> {
  const host = await requireHost(hostName, context);
  const endpoints = await lookedSince(since, hostName, channel, job, report);
  const outside = await context.lookOutside(host.id);
  const seen = [
    ...endpoints.map(({ service, target, state, detail }) => ({
      words: `${service} at ${target}: ${state}${detail === '' ? '' : ` (${detail})`}`,
      good: GOOD.has(state),
    })),
    ...(outside === null
      ? []
      : [
          {
            words: `libvirt from the manager: ${outside.state}${outside.detail === '' ? '' : ` (${outside.detail})`}`,
            good: outside.state === 'as-desired',
          },
        ]),
  ];
  report(
    (seen.length === 0 ? 'nothing is served' : seen.map(({ words }) => words).join('; ')).slice(0, 4000),
  );
  const bad = seen.filter(({ good }) => !good);
  if (bad.length === 0) return;
  throw new TrustError(
    'host.not_proven',
    'failed',
    `cannot prove every endpoint of host ${hostName}: ${bad.map(({ words }) => words).join('; ')}`.slice(
      0,
      4000,
    ),
    { hint: `see what is wrong there: virt-trust host show ${hostName}` },
  );
}

/** The last look at each endpoint, once all are as new. */
async function lookedSince(
  since: number,
  hostName: string,
  { agent }: HostChannel,
  { signal }: JobContext,
  report: (detail: string) => void,
): Promise<readonly ServedEndpoint[]> {
  const limit = AbortSignal.timeout(LOOK_TIMEOUT_MS);
  for (;;) {
    const { served, busy, credentials } = await agent.call(getObservedState, {}, { signal });
    const looked = served.filter(({ at }) => at >= since);
    // A host with credentials has at least the files and listeners of those to look at.
    if (!busy && looked.length === served.length && (served.length > 0 || credentials.length === 0))
      return served;
    report(`${looked.length} of ${served.length} endpoints since ${formatInstant(instant(since))}`);
    if (limit.aborted) throw notLooked(hostName);
    await systemSleep(PAUSE_MS, signal);
  }
}

function notLooked(hostName: string): TrustError {
  return new TrustError(
    'host.not_proven',
    'failed',
    `cannot prove every endpoint of host ${hostName}: its agent has not looked at all of them within ${LOOK_TIMEOUT_MS / SECOND} s`,
    { hint: 'look at its log: journalctl -u virt-trust-agent' },
  );
}
