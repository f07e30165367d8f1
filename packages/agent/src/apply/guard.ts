import { describeError } from '@virt-trust/base/error.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import type { Workshop } from '../served/workshop.ts';
import type { HostFacts } from '../services/host-effects.ts';
import type { ApplyState } from '../sets/apply-state.ts';
import { LAYOUTS } from '../sets/layout.ts';
import { QUIET_MS, REPAIR_LIMIT } from '../sets/repair-count.ts';
import { migrationsOf, type RestartWait, restartWait } from './restart-wait.ts';
import { targetSockets } from './target-sockets.ts';

interface Disturbance {
  readonly path: string;
  readonly repair: () => Promise<void>;
  /** What must read anew after the repair. */
  readonly rereads: Service | 'daemon' | 'nothing';
}

/**
 * Looks whether links, files and settings are as they were left, and repairs what is not. What a restart of the daemon
 * belongs to is left until no migration would be cut off by it; then what is waited for is returned.
 */
export async function checkHost(
  workshop: Workshop,
  desired: DesiredState,
  facts: HostFacts,
): Promise<RestartWait | undefined> {
  const { effects, emit, clock } = workshop.options;
  const manifest = await workshop.found.read();
  if (manifest === undefined) return undefined;
  const disturbances = await findDisturbances(workshop, desired, facts);
  const wait = await restartHeldUp(workshop, desired, disturbances);
  const found = disturbances.filter(({ rereads }) => wait === undefined || rereads !== 'daemon');
  await forgetQuiet(workshop, new Set(disturbances.map(({ path }) => path)));
  const after = new Set<Disturbance['rereads']>();
  for (const { path, repair, rereads } of found) {
    const state = await workshop.state();
    const count = (state.repairs.find((one) => one.path === path)?.count ?? 0) + 1;
    if (count > REPAIR_LIMIT + 1) continue;
    await workshop.saveState(withRepair(state, { path, count, at: clock.now() }));
    if (count > REPAIR_LIMIT) {
      await emit(
        'repair.left_alone',
        path,
        `was changed again after ${REPAIR_LIMIT} repairs; it is left alone now`,
      );
      continue;
    }
    try {
      await repair();
      after.add(rereads);
      await emit('repair.done', path, 'was not as virt-trust had left it; repaired');
    } catch (error) {
      await emit('repair.failed', path, describeError(error));
    }
  }
  const sockets = targetSockets(desired, manifest, facts);
  if (after.has('daemon'))
    await orSay(workshop, facts.daemon, () => effects.bringDaemon({ sockets, restart: true }));
  for (const service of SERVICES)
    if (after.has(service)) await orSay(workshop, service, () => effects.reload(service, facts));
  return wait;
}

/** What the restart that a repair takes has to wait for; undefined where none is needed or nothing holds it up. */
async function restartHeldUp(
  workshop: Workshop,
  desired: DesiredState,
  found: readonly Disturbance[],
): Promise<RestartWait | undefined> {
  const { repairs } = await workshop.state();
  const isRepaired = (path: string) => (repairs.find((one) => one.path === path)?.count ?? 0) < REPAIR_LIMIT;
  if (!found.some(({ rereads, path }) => rereads === 'daemon' && isRepaired(path))) {
    if ((await workshop.waiting.read()) !== undefined) await workshop.waiting.remove();
    return undefined;
  }
  const { clock, emit } = workshop.options;
  const wait = await restartWait(workshop, desired.settings.migrationWaitSeconds);
  if (wait !== undefined && wait.until > clock.now()) return wait;
  await workshop.waiting.remove();
  if (wait !== undefined)
    await emit('apply.migrations_cut', 'libvirt', `restarts in spite of ${migrationsOf(wait)}`);
  return undefined;
}

/** What is repaired on disk is a gain also where a daemon can't be told. */
async function orSay({ options }: Workshop, subject: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    await options.emit('repair.failed', subject, describeError(error));
  }
}

/** What is undisturbed now is contested no more; after a long quiet time it was never repaired. */
async function forgetQuiet(workshop: Workshop, disturbed: ReadonlySet<string>): Promise<void> {
  const state = await workshop.state();
  const now = workshop.options.clock.now();
  const repairs = state.repairs.flatMap((one) => {
    if (disturbed.has(one.path)) return [one];
    if (one.at !== undefined && now - one.at > QUIET_MS) return [];
    return [{ ...one, count: Math.min(one.count, REPAIR_LIMIT) }];
  });
  if (JSON.stringify(repairs) !== JSON.stringify(state.repairs))
    await workshop.saveState({ ...state, repairs });
}

async function findDisturbances(
  workshop: Workshop,
  desired: DesiredState,
  facts: HostFacts,
): Promise<Disturbance[]> {
  const { links, serving, crls, settings } = workshop;
  const state = await workshop.state();
  const manifest = await workshop.manifest();
  const found: Disturbance[] = [];
  const rescued = await workshop.rescuer.bases();
  for (const { service, current } of state.services) {
    if (current === null) continue;
    const layout = LAYOUTS[service];
    const { number } = current;
    for (const path of await serving.disturbed(layout, number, facts.qemuGid))
      found.push({ path, repair: () => serving.repair(layout, number, facts.qemuGid), rereads: service });
    for (const path of await crls.disturbed(service))
      found.push({ path, repair: async () => void (await crls.write(service)), rereads: service });
    // What is served in place of this set, because its time is not now, is no disturbance.
    if (rescued.get(service) !== number && (await serving.current(service)) !== number)
      found.push({
        path: serving.currentLink(service),
        repair: () => serving.switchTo(layout, number),
        rereads: service,
      });
    for (const path of await links.disturbed(layout, manifest))
      found.push({ path, repair: () => links.put(layout, manifest, facts.qemuGid), rereads: service });
  }
  for (const { path, keys } of await settings.disturbed(manifest, desired, facts, state.ownKeys))
    found.push({
      path,
      repair: async () => {
        const ownKeys = await settings.write(manifest, desired, facts, state.ownKeys);
        // A key that an application went back from is ours again, and would else stay for ever.
        await workshop.saveState({ ...(await workshop.state()), ownKeys });
      },
      rereads: keys.length > 0 ? 'daemon' : 'nothing',
    });
  return found;
}

function withRepair(state: ApplyState, repair: ApplyState['repairs'][number]): ApplyState {
  const others = state.repairs.filter((one) => one.path !== repair.path);
  return { ...state, repairs: [...others, repair].slice(-256) };
}
