import { randomUUID } from 'node:crypto';
import { isIP } from 'node:net';
import { TrustError } from '@virt-trust/base/error.ts';
import { parseHostId } from '@virt-trust/base/host-id.ts';
import { formatInstant, type Instant } from '@virt-trust/base/instant.ts';
import { isSpkiPin, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import { InstallAnswer, type InstallOrder } from '@virt-trust/contract/model/enrolment.ts';
import type { AddHost } from '@virt-trust/contract/model/host.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import type { JobContext } from '../jobs/job.ts';
import { keptOf } from './added-again.ts';
import { assertClock } from './clock-skew.ts';
import { foundFactsOf } from './found-facts.ts';
import type { Host } from './host.ts';
import { refuseKeysOfOthers } from './keys-of-others.ts';
import { sourceAddressTowards } from './manager-address.ts';
import type { HostsContext } from './ports.ts';
import { type RemoteFacts, readRemoteFacts } from './remote-facts.ts';
import { copyProgram, readProgram, runRemoteProgram } from './remote-program.ts';
import { resolveSshHost } from './ssh-client.ts';
import { SshSession } from './ssh-session.ts';

/** The machine names of `uname -m` by Node's names for the architecture that the program was built for. */
const MACHINE: Readonly<Record<string, string>> = { x64: 'x86_64', arm64: 'aarch64' };
const CHANNEL_PORT = 16515;

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
      const host = await record(order, hostKey, answer, context, job.actor);
      report(
        host.declared.interfaces
          .map(({ name, names }) => `${name}: ${[...names.dns, ...names.addresses].join(', ')}`)
          .join('; '),
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
  const { allowedSkewSeconds } = await context.settingsOf(await placeOf(order, context));
  assertClock(order.name, (facts.now * 1000) as Instant, context.clock.now(), allowedSkewSeconds);
}

/** Whose settings hold for the host: one that is known stays in its cluster where none is said. */
async function placeOf(
  { name, cluster }: AddHost,
  { repository }: Pick<HostsContext, 'repository'>,
): Promise<Pick<Host, 'name' | 'cluster'>> {
  return { name, cluster: cluster ?? (await repository.find(name))?.cluster ?? 'default' };
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
  const settings = await context.settingsOf(await placeOf(order, context));
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
  actor: string,
): Promise<Host> {
  const { answer } = installed;
  const known = await context.repository.find(order.name);
  const sshHost = await resolveSshHost(order.ssh);
  const pins = [answer.identity.current, answer.identity.next].filter((pin): pin is SpkiPin =>
    isSpkiPin(pin),
  );
  const id = known?.id ?? parseHostId(randomUUID());
  await refuseKeysOfOthers({ id, name: order.name }, pins, context.repository);
  const { cluster } = await placeOf(order, context);
  const channel = { address: installed.channelAddress, port: answer.channelPort };
  const { word, declared } = await context.declareAdded({
    id,
    hostName: order.name,
    cluster,
    sshHost,
    channel,
    interface: order.interface ?? known?.declared.interface ?? undefined,
    names: order.names ?? [],
    inventory: answer.inventory,
    known: known?.word,
  });
  const host: Host = {
    id,
    name: order.name,
    cluster,
    state: order.observe === true ? 'observed' : 'enrolling',
    reason: null,
    ssh: order.ssh,
    sshHostKey: hostKey,
    channel,
    managerAddresses: installed.managerAddresses,
    observeOnly: order.observe === true,
    agentPins: pins,
    declared,
    word,
    // Only the first look sees the host as others left it; after adoption what is found is ours.
    found: known?.found ?? foundFactsOf(answer.inventory),
    ...keptOf(known),
    inventory: answer.inventory,
    // What was accepted now is what it reports from now on, until it says otherwise.
    observed: known?.observed
      ? {
          ...known.observed,
          network: { hostName: answer.inventory.hostName, interfaces: answer.inventory.interfaces },
        }
      : null,
  };
  const moved = {
    actor,
    action: 'host.cluster',
    subject: order.name,
    outcome: 'done',
    detail: `from ${known?.cluster} to ${cluster}, whose settings hold for it now`,
  } as const;
  await context.repository.save(host, known === null || known.cluster === cluster ? [] : [moved]);
  return host;
}
