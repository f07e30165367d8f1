import { describeError, isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { formatInstant } from '@virt-trust/base/instant.ts';
import { getInventory, getObservedState } from '@virt-trust/contract/agent/operations.ts';
import type { DesiredSettings, DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import type { Inventory } from '@virt-trust/contract/model/inventory.ts';
import type { ObservedState } from '@virt-trust/contract/model/observed-state.ts';
import { PURPOSES, type Purpose } from '@virt-trust/contract/model/service.ts';
import type { JobContext } from '../jobs/job.ts';
import type { HostChannel } from './channels.ts';
import { clientDnGlobs } from './client-dns.ts';
import { assertClock } from './clock-skew.ts';
import { desiredStateOf } from './desired-state.ts';
import { dueSettings } from './due-settings.ts';
import { followUntilSettled, openChannel, overSessions } from './following.ts';
import { foundFactsOf, withNewServices } from './found-facts.ts';
import type { Host } from './host.ts';
import { Patience } from './patience.ts';
import type { HostsContext } from './ports.ts';
import { managerAddressesFor } from './readdressing.ts';
import { relearn } from './relearning.ts';
import { proveAgain, reestablish } from './reproof.ts';
import { requireHost } from './require-host.ts';
import { believable } from './revisions.ts';
import { MOST_ANNOUNCED, wantedSettings } from './wanted-settings.ts';

/** How long a host may take from the desired state to its proofs before the job gives up; the host goes on by itself. */
const APPLY_TIMEOUT_MS = 10 * 60_000;

export interface ProvisionOptions {
  /** Dials the channel anew first, and has every endpoint proven again at the end. */
  readonly reconnect?: boolean;
  /** Kind of CA, where whoever asked said one or a setting does. */
  readonly provider?: string;
}

/** As often as its settings are changed meanwhile, within reason. */
const MOST_ROUNDS = 5;

/** Brings a recorded host to its desired state and waits for every proof. Throws what the host says went wrong. */
export async function provision(
  hostName: string,
  context: HostsContext,
  job: JobContext,
  options: ProvisionOptions = {},
): Promise<string> {
  try {
    for (let round = 1; ; round++) {
      const { result, given } = await provisionOrThrow(hostName, context, job, options);
      const host = await requireHost(hostName, context);
      // Set while it was under way, when the host had nothing else yet.
      const due = dueSettings(given, await wantedSettings(host, context));
      if (due.length === 0 || host.revoked !== undefined || round === MOST_ROUNDS) return result;
    }
  } catch (error) {
    // Whoever joined goes on with it.
    if (!isTrustError(error, 'host.joined')) await markFailed(hostName, error, context);
    throw error;
  }
}

async function provisionOrThrow(
  hostName: string,
  context: HostsContext,
  job: JobContext,
  { reconnect = false, provider }: ProvisionOptions,
): Promise<{ result: string; given: DesiredSettings }> {
  assertNotRevoked(await requireHost(hostName, context));
  const anew = reconnect
    ? await job.step('Re-establish the channel', async (report) => {
        const session = await reestablish(hostName, context, job);
        report(session.words);
        return session;
      })
    : null;
  const channel = await job.step('Open the channel', async (report) => {
    const opened = await openChannel(hostName, context, job.signal);
    report(describeChannel(opened));
    return opened;
  });
  using patience = new Patience(APPLY_TIMEOUT_MS, context.clock);
  const signal = AbortSignal.any([job.signal, patience.signal]);
  const again = <T>(report: (detail: string) => void, work: () => Promise<T>) =>
    overSessions({ hostName, channel, context, signal, report }, work);
  const desired = await job.step('Plan the endpoints', async (report) => {
    const planned = await again(report, () => plan(hostName, channel, context, signal));
    report(
      planned.settings.tls === 'off'
        ? 'none: TLS is switched off by kvm.libvirtd.tls.enabled'
        : `${planned.credentials.map((credential) => `${credential.service} (${credential.identity})`).join(', ')}${provider === undefined ? '' : `; certificates from provider ${provider}`}`,
    );
    return planned;
  });
  const isOff = desired.settings.tls === 'off';
  const settled = await job.step(isOff ? GIVE_BACK : 'Issue, install and prove the certificates', (report) =>
    followUntilSettled({ hostName, desired, channel, context, job, signal, patience, report }),
  );
  if (!isOff)
    await job.step('Bring the CRLs', (report) =>
      again(report, async () => {
        await context.revocations.deliver(await requireHost(hostName, context), signal);
      }),
    );
  const result = await job.step('Record what is true now', (report) =>
    again(report, () => conclude(hostName, channel, settled, context, { desired, job, signal })),
  );
  if (anew !== null)
    await job.step('Prove every endpoint again', (report) =>
      proveAgain(hostName, anew.since, channel, context, job, report),
    );
  return { result, given: desired.settings };
}

const GIVE_BACK = 'Take TLS off and give back what was found';

/** Where the host finds this manager; nowhere while nobody listens. */
async function announceToFor(
  host: Host,
  context: HostsContext,
): Promise<DesiredState['settings']['announceTo']> {
  const port = context.announcePort();
  if (port === null) return [];
  const addresses = await managerAddressesFor(host, context);
  return addresses.slice(0, MOST_ANNOUNCED).map((address) => ({ address, port }));
}

function assertNotRevoked({ name, revoked }: Host): void {
  if (revoked === undefined) return;
  throw new TrustError(
    'host.revoked',
    'conflict',
    `cannot provision host ${name}: it was revoked for ${revoked.reason} at ${formatInstant(revoked.at)}`,
    { hint: `once it is trustworthy again, ask for it by name: virt-trust host provision ${name}` },
  );
}

function describeChannel(channel: HostChannel): string {
  return channel.state.kind === 'up' ? `TLS 1.3, pinned keys, ${channel.state.group}` : channel.state.kind;
}

async function plan(
  hostName: string,
  channel: HostChannel,
  context: HostsContext,
  signal: AbortSignal,
): Promise<DesiredState> {
  const inventory = await channel.agent.call(getInventory, {}, { signal });
  const host = await requireHost(hostName, context);
  const settings = await context.settingsOf(host);
  assertClock(host.name, inventory.takenAt as never, context.clock.now(), settings.allowedSkewSeconds);
  if (inventory.libvirt === null || inventory.qemu === null) {
    const missing = inventory.libvirt === null ? 'libvirt' : 'QEMU';
    throw new TrustError(
      'host.no_libvirt',
      'failed',
      `cannot secure host ${host.name}: ${missing} was not found on it`,
      {
        hint: `install it there (Debian: apt install libvirt-daemon-system qemu-system-x86), then: virt-trust host provision ${host.name}`,
      },
    );
  }
  const observed = await channel.agent.call(getObservedState, {}, { signal });
  await relearn(host, observed, channel, context, signal);
  const updated = await context.repository.update(host.id, (now) => ({
    ...now,
    inventory,
    found: foundNow(now, inventory),
    state: 'provisioning',
    reason: null,
    desiredNumber: Math.max(now.desiredNumber, believable(observed.number)) + 1,
  }));
  const bundles = Object.fromEntries(
    await Promise.all(
      PURPOSES.map(async (purpose) => [purpose, await context.certificates.bundle(purpose)] as const),
    ),
  ) as Record<Purpose, string>;
  return desiredStateOf({
    host: updated,
    epoch: context.epoch,
    organization: settings.organization,
    keyAlgorithm: settings.keyAlgorithm,
    migrationModes: settings.migrationModes,
    tls: settings.tls,
    migrationWaitSeconds: settings.migrationWaitSeconds,
    probeSeconds: settings.probeSeconds,
    bundles,
    clientDns: clientDnGlobs(settings.organization),
    consoles: settings.consoles,
    announceTo: await announceToFor(updated, context),
  });
}

/** What was found counts as it was before virt-trust: now, where nothing of virt-trust's is on the host. */
function foundNow({ found, tlsOff }: Host, inventory: Inventory): Host['found'] {
  if (found === null) return null;
  return tlsOff === true ? foundFactsOf(inventory) : withNewServices(found, inventory);
}

async function conclude(
  hostName: string,
  channel: HostChannel,
  observed: ObservedState,
  context: HostsContext,
  { desired, job, signal }: { desired: DesiredState; job: JobContext; signal: AbortSignal },
): Promise<string> {
  const inventory = await channel.agent.call(getInventory, {}, { signal });
  const host = await requireHost(hostName, context);
  const off = desired.settings.tls === 'off';
  await context.observing.refresh(host.id, channel, signal, ({ tlsOff: _, ...known }) => {
    const now: Host = { ...known, inventory, ...(off ? { tlsOff: true } : {}) };
    // Revoked meanwhile: then nothing of it is secured.
    return now.revoked === undefined ? { ...now, state: off ? 'unsecured' : 'secured', reason: null } : now;
  });
  await auditSwitch(host, off, context, job);
  const estranged = await context.revocations.revokeEstranged(
    await requireHost(hostName, context),
    desired.credentials,
    { actor: job.actor, origin: job.id },
    signal,
  );
  const proofs = observed.credentials.reduce((sum, credential) => sum + credential.proofs.length, 0);
  const gone =
    estranged === 0 ? '' : `; ${estranged} certificates with names that are the host's no more were revoked`;
  const pending =
    observed.pending.length === 0
      ? ''
      : `; ${observed.pending.length} left for a person: ${observed.pending.map((one) => one.what).join(', ')}`;
  if (off) return `host ${hostName}: TLS is off, what was found on it is back${gone}${pending}`;
  return `host ${hostName}: ${observed.credentials.map((credential) => credential.service).join(', ')} proven by ${proofs} handshakes${gone}${pending}`;
}

/** SECURITY: whoever reads the log finds since when a host is without TLS, and that its certificates are no loose ends. */
async function auditSwitch(
  before: Host,
  off: boolean,
  context: HostsContext,
  job: JobContext,
): Promise<void> {
  if ((before.tlsOff ?? false) === off) return;
  const { from } = await context.tlsOf(before);
  const ours = (before.observed?.credentials ?? []).filter(({ identity }) => identity === 'ours');
  const serials = ours.map(({ service, serialNumber }) => `${service} ${serialNumber}`).join(', ');
  const retired =
    ours.length === 0
      ? ''
      : `; out of use, with their keys destroyed on the host and so not revoked: ${serials}`;
  await context.audit.append({
    actor: job.actor,
    action: off ? 'host.tls_off' : 'host.tls_on',
    subject: before.name,
    outcome: 'done',
    detail: `kvm.libvirtd.tls.enabled (${from})${off ? `: what was found on the host is back${retired}` : ''}`,
  });
}

async function markFailed(hostName: string, error: unknown, context: HostsContext): Promise<void> {
  const host = await context.repository.find(hostName);
  if (host === null) return;
  const reason = describeError(error).slice(0, 4000);
  await context.repository.update(host.id, (now) => ({ ...now, state: 'failed', reason }));
}
