import { describeError, TrustError } from '@virt-trust/base/error.ts';
import {
  getObservedState,
  listCertificateRequests,
  listEvents,
  postProofs,
  putCertificates,
  putDesiredState,
} from '@virt-trust/contract/agent/operations.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { ObservedCredential, ObservedState } from '@virt-trust/contract/model/observed-state.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { JobContext } from '../jobs/job.ts';
import { whyAway } from './away.ts';
import { type HostChannel, isChannelLost } from './channels.ts';
import { proveLibvirt } from './libvirt-proof.ts';
import { managementAddresses } from './management-addresses.ts';
import type { Patience } from './patience.ts';
import type { HostsContext } from './ports.ts';
import { requireHost } from './require-host.ts';

/** A host that boots comes back within. */
export const CHANNEL_TIMEOUT_MS = 3 * 60_000;

/** A host on its way to a desired state. */
export interface Following {
  readonly hostName: string;
  readonly desired: DesiredState;
  readonly channel: HostChannel;
  readonly context: HostsContext;
  readonly job: JobContext;
  readonly signal: AbortSignal;
  /** Of `signal`. */
  readonly patience: Patience;
  readonly report: (detail: string) => void;
}

/** What is to be done with a host over its channel, and who is told where that breaks. */
interface OverChannel extends Pick<Following, 'hostName' | 'signal' | 'report'> {
  readonly channel: Pick<HostChannel, 'state'>;
  readonly context: ChannelContext;
}

type ChannelContext = Pick<HostsContext, 'repository' | 'channels'>;

/** Does what may be done again over as many sessions of the channel as it takes; `signal` bounds it. */
export async function overSessions<T>(
  { hostName, channel, context, signal, report }: OverChannel,
  work: () => Promise<T>,
): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!isChannelLost(error)) throw error;
      report(`${whyAway(channel.state)}; dialling again`);
      await openChannel(hostName, context, signal);
    }
  }
}

/** Follows the host to its end; all it is told it may be told again. */
export function followUntilSettled(following: Following): Promise<ObservedState> {
  return overSessions(following, () => follow(following));
}

/** Hands the host what it asks for until each service is settled; wakes at the agent's events. */
async function follow(following: Following): Promise<ObservedState> {
  const { channel, desired, signal, hostName } = following;
  const { agent } = channel;
  let { last } = await agent.call(listEvents, { query: { limit: 1 } }, { signal });
  let observed = await agent.call(putDesiredState, { body: desired }, { signal });
  if (desired.settings.tls === 'on') await bringCrls(following);
  let shown = '';
  for (;;) {
    following.report(describe(observed));
    const waits = waitsOf(observed);
    // Nobody else reads the state of a host that is under way: who looks at it sees what it waits for, and until when.
    if (waits !== shown) await keepObserved(following);
    shown = waits;
    letWait(observed, following);
    const isOurs = observed.epoch === desired.epoch && observed.number === desired.number;
    if (isOurs && !observed.busy && observed.failure !== null)
      throw failureOf(hostName, 'settings', observed.failure);
    const failed = observed.credentials.find(
      (credential) => credential.phase === 'failed' && credential.failure !== null,
    );
    if (isOurs && !observed.busy && failed?.failure)
      throw failureOf(hostName, failed.service, failed.failure);
    if (isOurs && isSettled(observed, desired)) return observed;
    const acted = await act(following, observed);
    if (!acted) {
      const page = await agent.call(listEvents, { query: { after: last, wait: 5, limit: 1000 } }, { signal });
      last = page.last;
    }
    observed = await agent.call(getObservedState, {}, { signal });
  }
}

/** A host that waits for migrations to end says until when; what is asked of it next joins that. */
function letWait({ pending }: ObservedState, { patience, job, hostName }: Following): void {
  const wait = pending.find(({ until }) => until !== undefined);
  if (wait?.until === undefined) return;
  patience.extend(wait.until);
  if (job.awaited?.() !== true) return;
  throw new TrustError(
    'host.joined',
    'conflict',
    `cannot finish this on host ${hostName}: its ${wait.what} ${wait.why}; the next job of this host goes on with it`,
    { hint: 'nothing is lost: see the next job of this host' },
  );
}

/** Before anything is switched, so that nothing serves without them; whether it has them is asked again at the end. */
async function bringCrls({ hostName, context, signal, report }: Following): Promise<void> {
  try {
    await context.revocations.deliver(await requireHost(hostName, context), signal);
  } catch (error) {
    report(describeError(error));
  }
}

function isSettled(observed: ObservedState, { settings }: DesiredState): boolean {
  if (settings.tls === 'off') return !observed.busy && observed.credentials.length === 0;
  return (
    !observed.busy &&
    observed.credentials.length > 0 &&
    observed.credentials.every((credential) => credential.phase === 'settled')
  );
}

/** For which migrations it waits and until when, in words; empty where it waits for none. */
function waitsOf({ pending }: ObservedState): string {
  return pending
    .flatMap(({ what, why, until }) => (until === undefined ? [] : [`${what} ${why}`]))
    .join(', ');
}

async function keepObserved({ hostName, channel, context, signal }: Following): Promise<void> {
  const { id } = await requireHost(hostName, context);
  await context.observing.refresh(id, channel, signal);
}

function describe(observed: ObservedState): string {
  const waits = waitsOf(observed);
  return [
    ...(waits === '' ? [] : [waits]),
    ...observed.credentials.map((credential) => `${credential.service} ${credential.phase}`),
  ]
    .join(', ')
    .slice(0, 1000);
}

function failureOf(
  hostName: string,
  service: string,
  failure: NonNullable<ObservedState['failure']>,
): TrustError {
  return new TrustError(
    failure.code,
    'failed',
    `cannot secure ${service} on host ${hostName}: ${failure.message} (at step ${failure.step}; the former state is back)`,
    {
      ...(failure.hint === undefined ? {} : { hint: failure.hint }),
      context: { host: hostName, service, step: failure.step },
    },
  );
}

/** Answers requests and proofs that wait; false where there was nothing to do. */
async function act(following: Following, observed: ObservedState): Promise<boolean> {
  const phases = new Set(observed.credentials.map((credential) => credential.phase));
  if (phases.has('requested')) return answerRequests(following);
  const proving = observed.credentials.filter(
    (credential) => credential.phase === 'proving' && credential.candidate !== null,
  );
  if (proving.length === 0) return false;
  await answerProofs(following, proving);
  return true;
}

async function answerRequests({
  channel,
  context,
  desired,
  hostName,
  job,
  signal,
}: Following): Promise<boolean> {
  const { requests } = await channel.agent.call(listCertificateRequests, {}, { signal });
  if (requests.length === 0) return false;
  const host = await requireHost(hostName, context);
  const certificates = await Promise.all(
    requests.map(async (request) => {
      credentialOf(desired, request.service, hostName);
      const issued = await context.certificates.issueForHost({
        host,
        service: request.service,
        csrPem: request.csr,
        actor: job.actor,
      });
      return { service: request.service, generation: request.generation, certificate: issued.certificatePem };
    }),
  );
  await channel.agent.call(putCertificates, { body: { certificates } }, { signal });
  return true;
}

function credentialOf(desired: DesiredState, service: Service, hostName: string) {
  const credential = desired.credentials.find((candidate) => candidate.service === service);
  if (credential === undefined) {
    throw new TrustError(
      'host.request_unexpected',
      'denied',
      `cannot issue for host ${hostName}: it asks for ${service}, which is not planned there`,
    );
  }
  return credential;
}

async function answerProofs(
  { channel, context, desired, hostName, signal }: Following,
  proving: readonly ObservedCredential[],
): Promise<void> {
  const client = await context.certificates.ownClient();
  const host = await requireHost(hostName, context);
  const foundFiles = host.inventory?.tlsFiles ?? [];
  const proofs = await Promise.all(
    proving.flatMap((credential) =>
      credential.candidate === null
        ? []
        : [
            proveLibvirt({
              desired: credentialOf(desired, credential.service, hostName),
              addresses: managementAddresses(host),
              channelAddress: host.channel.address,
              candidate: credential.candidate,
              foundFiles,
              client,
              clock: context.clock,
              signal,
            }),
          ],
    ),
  );
  signal.throwIfAborted();
  await channel.agent.call(postProofs, { body: { proofs } }, { signal });
}

/** The host's channel, once it is up; throws `host.channel_down`. */
export async function openChannel(
  hostName: string,
  context: ChannelContext,
  signal: AbortSignal,
): Promise<HostChannel> {
  const host = await requireHost(hostName, context);
  const channel = await context.channels.of(host);
  await channel.waitUntilUp(signal, CHANNEL_TIMEOUT_MS);
  return channel;
}
