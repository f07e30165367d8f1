import { chmod, mkdir } from 'node:fs/promises';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { MINUTE } from '@virt-trust/base/instant.ts';
import type { Log } from '@virt-trust/base/log.ts';
import { type Randomness, systemRandomness } from '@virt-trust/base/randomness.ts';
import { requireSeparateRoles } from '@virt-trust/channel/pins.ts';
import type { Sleep } from '@virt-trust/channel/sleep.ts';
import { type RunHostCommand, runHostCommand } from '@virt-trust/check/host/host-command.ts';
import { PEER_PORT } from '@virt-trust/contract/model/grant.ts';
import { type Announcing, openAnnouncing } from './announcing/announcing.ts';
import { Consoles } from './consoles/consoles.ts';
import { type ChannelDoor, openChannelDoor } from './doors/channel-door.ts';
import { type LocalDoor, openLocalDoor } from './doors/local-door.ts';
import { PeerDoor } from './doors/peer-door.ts';
import { Firewall } from './firewall/firewall.ts';
import { takeInventory } from './inventory/inventory.ts';
import { agentHandlers } from './operations.ts';
import type { AgentContext } from './ports/agent-context.ts';
import type { EngineFactory } from './ports/engines.ts';
import { makeStateDirectories } from './state/directories.ts';
import { EventLog } from './state/events.ts';
import { IdentityStore } from './state/identity.ts';
import { ManagerStore } from './state/managers.ts';
import { type AgentOrder, orderDocument } from './state/order.ts';
import { type AgentPaths, agentPaths } from './state/paths.ts';

export interface AgentOptions {
  readonly root?: string;
  readonly log: Log;
  readonly clock?: Clock;
  readonly randomness?: Randomness;
  readonly run?: RunHostCommand;
  readonly engines: EngineFactory;
  /** Removes the service, after the host was given back what was found on it. */
  readonly uninstall: () => Promise<void>;
  /** In place of the order's port; 0 takes a free one. */
  readonly channelPort?: number;
  /** In place of PEER_PORT; 0 takes a free one each time. */
  readonly peerPort?: number;
  /** How long it waits before it makes itself known. */
  readonly sleep?: Sleep;
}

export interface RunningAgent {
  readonly channelPort: number;
  /** Resolves when the host was given back and the service was removed. */
  readonly removed: Promise<void>;
  /** Lets running requests finish for a while, then ends. */
  close(): Promise<void>;
}

const CLOSE_MS = 10_000;
/** How often lost firewall rules are put back. */
const FIREWALL_INTERVAL_MS = MINUTE;
/** What the channel's port is opened as. */
const CHANNEL_OPENING = 'channel';

/** Runs the agent until it is closed: its doors are open when this resolves. Throws where the host is not enrolled. */
export async function runAgent(options: AgentOptions): Promise<RunningAgent> {
  const { log, clock = systemClock, randomness = systemRandomness, run = runHostCommand } = options;
  const paths = agentPaths(options.root);
  // SECURITY: every file and socket is closed to others from its first moment on.
  process.umask(0o077);
  await makeStateDirectories(paths);
  await makeRunDirectory(paths);
  const order = await readOrder(paths);
  const { store: identity } = await IdentityStore.open(paths.identity, randomness);
  await makeStandby(identity, log);
  const managers = await ManagerStore.open(paths.managers);
  requireSeparateRoles(managers.pins, identity.pins);
  const events = await EventLog.open(paths.events, clock);
  const firewall = new Firewall(paths, run);
  let announcing: Announcing | undefined;
  const context: AgentContext = {
    paths,
    mode: order.mode,
    keys: () => ({ current: identity.current, own: identity.pins, managers: managers.pins }),
    run,
    firewall,
    clock,
    randomness,
    log,
    record: async (kind, subject, message) => {
      log.info({ kind, subject }, message);
      try {
        await events.append(kind, subject, message);
      } catch (error) {
        log.error({ kind, subject, reason: describeError(error) }, 'event lost');
      }
      if (kind === 'network.changed') announcing?.networkChanged(network.report());
    },
    inventory: () => takeInventory({ paths, run, firewall, clock, log }),
  };
  const engines = await options.engines(context);
  const { apply, crls, migrations, network, capabilities, grants, arrivals, preflights } = engines;
  const consoles = await Consoles.open(context);
  const removed = Promise.withResolvers<void>();
  let removing = false;
  let channel: ChannelDoor | undefined;
  let local: LocalDoor | undefined;
  let timer: NodeJS.Timeout | undefined;
  const handlers = agentHandlers({
    context,
    identity,
    managers,
    events,
    engines,
    consoles,
    startedAt: clock.now(),
    channel: () => channel,
    onDesired: async (desired, managerAddress) => announcing?.desired(desired, managerAddress),
    onRemoved: () => {
      if (removing) return;
      removing = true;
      clearInterval(timer);
      options.uninstall().then(removed.resolve, (error) => {
        removing = false;
        log.error({ reason: describeError(error) }, 'the service was not removed whole');
      });
    },
  });

  async function close(): Promise<void> {
    clearInterval(timer);
    await announcing?.stop();
    await channel?.close(AbortSignal.timeout(CLOSE_MS));
    await local?.close();
    await grants.close();
    await preflights.close();
    await arrivals.close();
    await consoles.close();
    await migrations.close();
    await crls.stop();
    await apply.stop();
    await network.stop();
    await capabilities.stop();
    await events.close();
  }

  try {
    announcing = await openAnnouncing({
      context,
      installed: order.managerAddresses,
      identity,
      managers,
      apply,
      channel: () => channel,
      sleep: options.sleep,
      open: async (addresses) => {
        if (channel !== undefined && order.mode === 'manage')
          await openPort(context, channel.port, addresses);
      },
    });
    const { addresses } = announcing;
    await network.start();
    await apply.start();
    await announcing.start();
    await capabilities.start();
    if (order.mode === 'manage') crls.start();
    channel = await openChannelDoor({
      identity: () => identity.current,
      trustedManagers: () => managers.pins,
      port: options.channelPort ?? order.channelPort,
      admits: (remoteAddress) => addresses.admits(remoteAddress),
      onChannels: () => announcing?.channelsChanged(),
      handlers,
      log,
      clock,
    });
    await grants.start(
      new PeerDoor({
        identity: () => identity.current,
        grants,
        port: options.peerPort ?? PEER_PORT,
        handlers,
        log,
        clock,
      }),
    );
    // After the grants, by which it knows which streams go on.
    await arrivals.start();
    if (order.mode === 'manage') timer = await keepPortOpen(context, addresses.all, channel.port);
    // Last, because its answer says that all is there.
    local = await openLocalDoor({ path: paths.socket, handlers, log });
  } catch (error) {
    await close();
    throw error;
  }
  await context.record(
    'agent.started',
    identity.current.pin,
    `listens on ${channel.listen}, mode ${order.mode}`,
  );
  return { channelPort: channel.port, removed: removed.promise, close };
}

/** A disk that is full must not keep the agent from starting: a manager asks for the standby again. */
async function makeStandby(identity: IdentityStore, log: Log): Promise<void> {
  try {
    await identity.announce();
  } catch (error) {
    log.warn({ reason: describeError(error) }, 'cannot make the standby key');
  }
}

async function readOrder(paths: AgentPaths): Promise<AgentOrder> {
  const order = await orderDocument(paths).read();
  if (order !== undefined) return order;
  throw new TrustError(
    'agent.not_installed',
    'failed',
    `cannot start the agent: ${paths.order} is not there`,
    {
      context: { path: paths.order },
      hint: 'Enrol the host: virt-trust host add.',
    },
  );
}

/** For these addresses and no other. */
async function openPort(
  { firewall, record }: AgentContext,
  port: number,
  addresses: readonly string[],
): Promise<void> {
  const opening = { what: CHANNEL_OPENING, ports: [{ from: port, to: port }], from: [...addresses] };
  if (await firewall.open(opening)) await record('firewall.opened', `${port}`, `for ${addresses.join(' ')}`);
}

async function makeRunDirectory(paths: AgentPaths): Promise<void> {
  await mkdir(paths.run, { recursive: true });
  await chmod(paths.run, 0o711);
}

/** A firewall that can't be asked must not keep the agent from starting: the manager may be reachable all the same. */
async function keepPortOpen(
  context: AgentContext,
  addresses: readonly string[],
  port: number,
): Promise<NodeJS.Timeout> {
  const { firewall, record, log } = context;
  try {
    await openPort(context, port, addresses);
    await firewall.reapply();
  } catch (error) {
    await record('firewall.failed', `${port}`, describeError(error));
  }
  const timer = setInterval(() => {
    firewall.reapply().then(
      async (changed) => {
        if (changed) await record('firewall.restored', `${port}`, 'rules that were lost are there again');
      },
      (error: unknown) => log.warn({ reason: describeError(error) }, 'cannot look at the firewall'),
    );
  }, FIREWALL_INTERVAL_MS);
  timer.unref();
  return timer;
}
