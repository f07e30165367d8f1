import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import { targetSockets } from './forward-steps.ts';
import type { HostFacts } from './host-effects.ts';
import { LAYOUTS } from './layout.ts';
import type { ApplyState } from './state.ts';
import type { Workshop } from './workshop.ts';

/** How often a path is repaired before it is left alone, with an alarm. */
export const REPAIR_LIMIT = 2;

interface Disturbance {
  readonly path: string;
  readonly repair: () => Promise<void>;
  /** What must read anew after the repair. */
  readonly rereads: Service | 'daemon' | 'nothing';
}

/** Looks whether links, files and settings are as they were left, and repairs what is not. */
export async function checkHost(workshop: Workshop, desired: DesiredState, facts: HostFacts): Promise<void> {
  const { effects, emit } = workshop.options;
  const manifest = await workshop.found.read();
  if (manifest === undefined) return;
  const found = await findDisturbances(workshop, desired, facts);
  const after = new Set<Disturbance['rereads']>();
  for (const { path, repair, rereads } of found) {
    const state = await workshop.state();
    const count = (state.repairs.find((one) => one.path === path)?.count ?? 0) + 1;
    if (count > REPAIR_LIMIT + 1) continue;
    await workshop.saveState(withRepair(state, path, count));
    if (count > REPAIR_LIMIT) {
      await emit(
        'repair.left_alone',
        path,
        `was changed again after ${REPAIR_LIMIT} repairs; it is left alone now`,
      );
      continue;
    }
    await repair();
    after.add(rereads);
    await emit('repair.done', path, 'was not as virt-trust had left it; repaired');
  }
  if (after.has('daemon'))
    await effects.bringDaemon({ sockets: targetSockets(desired, manifest, facts), restart: true });
  for (const service of SERVICES) if (after.has(service)) await effects.reload(service, facts);
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
  const rescued = new Set((await workshop.rescuer.active()).map(({ service }) => service));
  for (const { service, current } of state.services) {
    if (current === null) continue;
    const layout = LAYOUTS[service];
    const { number } = current;
    for (const path of await serving.disturbed(layout, number, facts.qemuGid))
      found.push({ path, repair: () => serving.repair(layout, number, facts.qemuGid), rereads: service });
    for (const path of await crls.disturbed(service))
      found.push({ path, repair: async () => void (await crls.write(service)), rereads: service });
    // What is served in place of a set whose time is over is no disturbance.
    if (!rescued.has(service) && (await serving.current(service)) !== number)
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
      repair: async () => void (await settings.write(manifest, desired, facts, state.ownKeys)),
      rereads: keys.length > 0 ? 'daemon' : 'nothing',
    });
  return found;
}

function withRepair(state: ApplyState, path: string, count: number): ApplyState {
  const others = state.repairs.filter((one) => one.path !== path);
  return { ...state, repairs: [...others, { path, count }].slice(-256) };
}
