import { lstat, mkdir, readlink, stat } from 'node:fs/promises';
import { basename, dirname } from 'node:path';
import { type Clock, systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { type Randomness, systemRandomness } from '@virt-trust/base/randomness.ts';
import { type RunHostCommand, runHostCommand } from '@virt-trust/check/host/host-command.ts';
import { getIdentity } from '@virt-trust/contract/agent/identity-operations.ts';
import { getInventory, getStatus } from '@virt-trust/contract/agent/operations.ts';
import type { ApiClient } from '@virt-trust/contract/client.ts';
import { type InstallAnswer, InstallOrder } from '@virt-trust/contract/model/enrolment.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import { localAgentClient } from '../doors/local-client.ts';
import { readFileIfPresent, replaceLink, writeFileAtomic } from '../state/atomic-file.ts';
import { makeStateDirectories } from '../state/directories.ts';
import { IdentityStore } from '../state/identity.ts';
import { ManagerStore } from '../state/managers.ts';
import { type AgentOrder, orderDocument } from '../state/order.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { checkHost, explainWriteError } from './preflight.ts';
import { type Change, Service } from './service.ts';
import { guardUnitText, unitText } from './unit.ts';

export interface InstallOptions {
  readonly root?: string;
  readonly uid?: number;
  readonly clock?: Clock;
  readonly randomness?: Randomness;
  readonly run?: RunHostCommand;
  /** What the service runs; the program in its place unless said otherwise. */
  readonly command?: readonly string[];
  /** How long the agent may take to answer. */
  readonly readyMs?: number;
}

/** A file that tells systemd what to run. */
interface Unit {
  readonly path: string;
  readonly text: string;
}

/** The agent's own unit and, where it manages, the guard's. */
function unitsFor(order: InstallOrder, paths: AgentPaths, command: readonly string[]): Unit[] {
  const agent = { path: paths.unit, text: unitText(command) };
  if (order.mode === 'observe') return [agent];
  return [agent, { path: paths.guardUnit, text: guardUnitText([...command.slice(0, -1), 'guard']) }];
}

/** Reads an install order from standard input's text; throws `install.bad_order`, `contract.invalid`. */
export function parseInstallOrder(text: string): InstallOrder {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new TrustError('install.bad_order', 'invalid', 'cannot install the agent: the order is not JSON', {
      hint: 'The manager sends the order; to enrol a host run: virt-trust host add.',
      cause,
    });
  }
  return validatorOf(InstallOrder)(value, 'the install order');
}

/**
 * Installs and starts the agent as ordered; again with the same order it changes nothing, and after it was killed
 * it goes on where it stopped. Throws `install.*`, and nothing is written where the host can't take it.
 */
export async function installAgent(
  order: InstallOrder,
  options: InstallOptions = {},
): Promise<InstallAnswer> {
  const { clock = systemClock, run = runHostCommand } = options;
  const paths = agentPaths(options.root);
  const command = options.command ?? [paths.program, 'agent', 'run'];
  const units = unitsFor(order, paths, command);
  const uid = options.uid ?? process.getuid?.() ?? -1;
  await checkHost(paths, { uid, clock, written: await directoriesToWrite(order, paths, units) });
  const service = new Service(basename(paths.unit), paths, run);
  try {
    const changed = await writeEverything(
      order,
      paths,
      units,
      service,
      options.randomness ?? systemRandomness,
    );
    changed.push(...(await service.bringUp(changed.some(needsRestart))));
    if (units.length > 1)
      changed.push(...(await new Service(basename(paths.guardUnit), paths, run).enableForBoot()));
    const client = localAgentClient(paths.socket);
    const status = await waitUntilReady(client, service, options.readyMs ?? 30_000);
    await service.settled();
    return {
      identity: await client.call(getIdentity, {}),
      version: status.version,
      channelPort: order.channelPort,
      now: clock.now(),
      changed: changed.map(({ what }) => what),
      inventory: await client.call(getInventory, {}),
    };
  } catch (error) {
    throw explainWriteError(error);
  }
}

function needsRestart({ restart }: Change): boolean {
  return restart;
}

async function writeEverything(
  order: InstallOrder,
  paths: AgentPaths,
  units: readonly Unit[],
  service: Service,
  randomness: Randomness,
): Promise<Change[]> {
  const changed: Change[] = [];
  for (const directory of await makeStateDirectories(paths))
    changed.push({ what: `directory ${directory}`, restart: false });
  const { store, made } = await IdentityStore.open(paths.identity, randomness);
  if (made) changed.push({ what: `key of the agent, ${store.current.pin}`, restart: false });
  // From here on a change is one that the running agent has to take up, also when this run ends in between.
  const { managers, ...kept } = order;
  if (!(await sameOrder(paths, kept))) {
    await service.unsettled();
    await orderDocument(paths).write(kept);
    changed.push({
      what: `mode ${order.mode}, port ${order.channelPort}, addresses of managers`,
      restart: true,
    });
  }
  if (await ManagerStore.wouldChange(paths.managers, managers)) {
    await service.unsettled();
    await ManagerStore.install(paths.managers, managers, store.pins);
    changed.push({ what: `managers ${managers.pins.join(' ')}`, restart: true });
  }
  for (const { path, text } of units) {
    if (await holds(path, text)) continue;
    await service.unsettled();
    await mkdir(dirname(path), { recursive: true });
    await writeFileAtomic(path, text, { mode: 0o644 });
    changed.push({ what: `unit ${path}`, restart: true });
  }
  if (await linkProgram(paths)) changed.push({ what: `link ${paths.programLink}`, restart: false });
  return changed;
}

/** Only what there is to write: /etc may be read-only once all is in place. */
async function directoriesToWrite(
  order: InstallOrder,
  paths: AgentPaths,
  units: readonly Unit[],
): Promise<string[]> {
  const known = await orderDocument(paths)
    .read()
    .catch(() => undefined);
  return [
    dirname(paths.state),
    dirname(paths.run),
    ...((await everyHolds(units)) ? [] : [dirname(paths.unit), dirname(paths.programLink)]),
    // The agent that manages puts links below /etc; better to know now than at the first certificate.
    ...(order.mode === 'manage' && known?.mode !== 'manage' ? [paths.at('/etc')] : []),
  ];
}

async function everyHolds(units: readonly Unit[]): Promise<boolean> {
  for (const { path, text } of units) if (!(await holds(path, text))) return false;
  return true;
}

async function holds(path: string, content: string): Promise<boolean> {
  return (await readFileIfPresent(path))?.toString('utf8') === content;
}

async function sameOrder(paths: AgentPaths, order: AgentOrder): Promise<boolean> {
  // A damaged file is what a new enrolment mends.
  const known = await orderDocument(paths)
    .read()
    .catch(() => undefined);
  return (
    known !== undefined &&
    known.mode === order.mode &&
    known.channelPort === order.channelPort &&
    JSON.stringify(known.managerAddresses) === JSON.stringify(order.managerAddresses)
  );
}

/** A program of that name that is not ours stays. */
async function linkProgram(paths: AgentPaths): Promise<boolean> {
  if ((await stat(paths.program).catch(() => undefined)) === undefined) return false;
  const found = await lstat(paths.programLink).catch(() => undefined);
  if (found !== undefined && !found.isSymbolicLink()) return false;
  if (found !== undefined && (await readlink(paths.programLink)) === paths.program) return false;
  await mkdir(dirname(paths.programLink), { recursive: true });
  await replaceLink(paths.programLink, paths.program);
  return true;
}

async function waitUntilReady(client: ApiClient, service: Service, readyMs: number) {
  const deadline = performance.now() + readyMs;
  for (;;) {
    try {
      return await client.call(getStatus, {});
    } catch (error) {
      if (!isTrustError(error, 'agent.not_running')) throw error;
      if (performance.now() > deadline) {
        throw new TrustError(
          'install.not_ready',
          'failed',
          `cannot finish the installation: the agent does not answer within ${readyMs / 1000} s: ${await service.lastWords()}`,
          { hint: 'See its log on the host: journalctl -u virt-trust-agent.', cause: error },
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
