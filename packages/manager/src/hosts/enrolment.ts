import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import { parseHostId } from '@virt-trust/base/host-id.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { isSpkiPin, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { InstallAnswer, type InstallOrder } from '@virt-trust/contract/model/enrolment.ts';
import type { AddHost } from '@virt-trust/contract/model/manager.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { JobContext } from '../jobs/job.ts';
import { declare } from './declaration.ts';
import { foundFactsOf } from './found-facts.ts';
import type { Host } from './host.ts';
import { sourceAddressTowards } from './manager-address.ts';
import type { HostsContext } from './ports.ts';
import {
  copyProgram,
  type RemoteFacts,
  readProgram,
  readRemoteFacts,
  runRemoteProgram,
} from './remote-program.ts';
import { resolveSshHost, SshSession, scanHostKeys } from './ssh.ts';
import type { KnownHostKey } from './ssh-host-key.ts';

/** The machine names of `uname -m` by Node's names for the architecture that the program was built for. */
const MACHINE: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' };
const CHANNEL_PORT = 16515;

/**
 * Finds the SSH host key that goes with the fingerprint given, or with the one accepted before. Nothing is run on the
 * machine. Throws `ssh.host_key_unaccepted` with the keys shown where none was given, `ssh.host_key_mismatch` where
 * the machine has another.
 */
export async function acceptHostKey(
  order: AddHost,
  known: Host | null,
  signal?: AbortSignal,
): Promise<string> {
  const keys = await scanHostKeys(order.ssh, signal);
  if (order.fingerprint !== undefined) return keyOf(keys, order.fingerprint, order);
  if (known !== null) {
    const accepted = keys.find((key) => key.key === known.sshHostKey);
    if (accepted !== undefined) return accepted.key;
    throw mismatch(order, keys, 'the one that was accepted before');
  }
  throw new TrustError(
    'ssh.host_key_unaccepted',
    'denied',
    `cannot add host ${order.name}: the SSH host key of ${order.ssh.destination} was not accepted`,
    {
      context: { keys: keys.map(({ algorithm, fingerprint }) => ({ algorithm, fingerprint })) },
      hint: `compare it with what the machine's console shows (ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then give it with --ssh-fingerprint ${keys[0]?.fingerprint ?? ''}`,
    },
  );
}

function keyOf(keys: readonly KnownHostKey[], fingerprint: string, order: AddHost): string {
  const key = keys.find((candidate) => candidate.fingerprint === fingerprint);
  if (key === undefined) throw mismatch(order, keys, `the one given, ${fingerprint}`);
  return key.key;
}

function mismatch(order: AddHost, keys: readonly KnownHostKey[], expected: string): TrustError {
  const shown = keys.map((key) => `${key.fingerprint} (${key.algorithm})`).join(', ');
  return new TrustError(
    'ssh.host_key_mismatch',
    'denied',
    `cannot add host ${order.name}: the SSH host key of ${order.ssh.destination} is not ${expected}; it shows ${shown}`,
    {
      context: { destination: order.ssh.destination },
      hint: 'nothing was done on the machine; make sure that it is the right one before you accept another key',
    },
  );
}

/** The first part of `host add`: over SSH, up to a recorded host whose agent answers on its channel. */
export async function enrol(
  order: AddHost,
  hostKey: string,
  context: HostsContext,
  job: JobContext,
): Promise<Host> {
  const program = await readProgram(context.programPath);
  const session = await job.step('Log in over SSH', async (report) => {
    const opened = await SshSession.open(order.ssh, hostKey, job.signal);
    report(`${order.ssh.destination}, host key pinned`);
    return opened;
  });
  try {
    const facts = await job.step('Look at the machine', async (report) => {
      const seen = await readRemoteFacts(session, order.name, job.signal);
      await assertSuitable(order, seen, context);
      report(`${seen.machine}, clock ${formatInstant((seen.now * 1000) as Instant)}`);
      return seen;
    });
    await job.step('Copy the program', async (report) => {
      const copied = await copyProgram(session, facts, program, order.name, job.signal);
      report(
        copied
          ? `${Math.round(program.bytes / 1e6)} MB, sha256 ${program.sha256.slice(0, 16)}`
          : 'the same is there',
      );
    });
    const answer = await job.step('Install the agent and exchange public keys', async (report) => {
      const installed = await install(session, facts, order, context, job.signal);
      report(describeInstalled(installed.answer));
      return installed;
    });
    return await job.step('Record the host', async (report) => {
      const host = await record(order, hostKey, answer, context);
      report(
        `${host.declared.interface}: ${[...host.declared.names.dns, ...host.declared.names.addresses].join(', ')}`,
      );
      return host;
    });
  } finally {
    await session.close();
  }
}

function describeInstalled({ changed, identity }: InstallAnswer): string {
  if (changed.length === 0) return 'nothing to change';
  // Of a first installation everything is new: who came to be says more than the list of its directories.
  return changed.length <= 3
    ? changed.join(', ')
    : `${changed.length} things made; the agent is ${identity.current}`;
}

async function assertSuitable(order: AddHost, facts: RemoteFacts, context: HostsContext): Promise<void> {
  if (facts.machine !== MACHINE[process.arch]) {
    throw new TrustError(
      'host.unsuitable',
      'invalid',
      `cannot deploy to host ${order.name}: it is ${facts.machine}, the program is for ${MACHINE[process.arch]}`,
    );
  }
  const { allowedSkewSeconds } = await context.settingsOf({
    name: order.name,
    cluster: order.cluster ?? 'default',
  });
  assertClock(order.name, (facts.now * 1000) as Instant, context.clock.now(), allowedSkewSeconds);
}

/** Certificates are back-dated by the allowed skew; past it they would not be valid yet for one side. Throws `host.clock_skew`. */
export function assertClock(
  hostName: string,
  host: Instant,
  manager: Instant,
  allowedSkewSeconds: number,
): void {
  if (Math.abs(host - manager) <= allowedSkewSeconds * 1000) return;
  throw new TrustError(
    'host.clock_skew',
    'conflict',
    `cannot work with host ${hostName}: its clock says ${formatInstant(host)} and the manager's says ${formatInstant(manager)}, more than ${allowedSkewSeconds} s apart`,
    {
      hint: 'set the wrong one right (timedatectl set-ntp true), then run the same command again',
      context: { host: formatInstant(host), manager: formatInstant(manager) },
    },
  );
}

interface Installed {
  readonly answer: InstallAnswer;
  readonly channelAddress: string;
  readonly managerAddresses: readonly string[];
}

async function install(
  session: SshSession,
  facts: RemoteFacts,
  order: AddHost,
  context: HostsContext,
  signal: AbortSignal,
): Promise<Installed> {
  const channelAddress = order.channelAddress ?? (await resolveSshHost(order.ssh));
  const settings = await context.settingsOf({ name: order.name, cluster: order.cluster ?? 'default' });
  const source = await sourceAddressTowards(channelAddress);
  const managerAddresses = [
    facts.managerAddress,
    source,
    ...settings.managerAddresses,
    ...(order.managerAddresses ?? []),
  ];
  const unique = [
    ...new Set(managerAddresses.filter((address) => address !== null && isIP(address) !== 0)),
  ] as string[];
  const installOrder: InstallOrder = {
    managers: await context.identities.managerPins(),
    managerAddresses: unique,
    channelPort: order.channelPort ?? CHANNEL_PORT,
    mode: order.observe === true ? 'observe' : 'manage',
  };
  const raw = await runRemoteProgram(session, facts, ['agent', 'install'], installOrder, order.name, signal);
  const answer = validatorOf(InstallAnswer)(raw, `answer of host ${order.name} to agent install`);
  return { answer, channelAddress, managerAddresses: unique };
}

async function record(
  order: AddHost,
  hostKey: string,
  installed: Installed,
  context: HostsContext,
): Promise<Host> {
  const { answer } = installed;
  const known = await context.repository.find(order.name);
  const sshHost = await resolveSshHost(order.ssh);
  const pins = [answer.identity.current, answer.identity.next].filter((pin): pin is SpkiPin =>
    isSpkiPin(pin),
  );
  const declared = declare({
    hostName: order.name,
    sshHost,
    interface: order.interface ?? known?.declared.interface ?? undefined,
    names: order.names ?? [],
    inventory: answer.inventory,
  });
  const host: Host = {
    id: known?.id ?? parseHostId(randomUUID()),
    name: order.name,
    cluster: order.cluster ?? known?.cluster ?? 'default',
    state: order.observe === true ? 'observed' : 'enrolling',
    reason: null,
    ssh: order.ssh,
    sshHostKey: hostKey,
    channel: { address: installed.channelAddress, port: answer.channelPort },
    managerAddresses: installed.managerAddresses,
    observeOnly: order.observe === true,
    agentPins: pins,
    declared,
    // Only the first look sees the host as others left it; after adoption what is found is ours.
    found: known?.found ?? foundFactsOf(answer.inventory),
    grantedGates: known?.grantedGates ?? [],
    desiredNumber: known?.desiredNumber ?? 0,
    revisions: known?.revisions ?? {},
    inventory: answer.inventory,
    observed: known?.observed ?? null,
  };
  await context.repository.save(host);
  return host;
}
