import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import type { Workshop } from '../served/workshop.ts';
import {
  type ApplyState,
  emptyJournal,
  type Journal,
  type Transition,
  withService,
} from '../sets/apply-state.ts';
import { keepsEveryService } from '../sets/found.ts';
import { planApplication } from './plan.ts';
import { targetSockets } from './target-sockets.ts';

/**
 * The journal of an application that leads from what the host has to what is desired. `waiting` are transitions of an
 * application before it whose requests still wait; those that are not wanted any more are destroyed.
 */
export async function planJournal(
  workshop: Workshop,
  desired: DesiredState,
  waiting: readonly Transition[],
): Promise<Journal> {
  const state = await numbered(workshop, await workshop.state());
  const { foundKept, settingsDiffer } = await differences(workshop, desired, state);
  const plan = planApplication({ desired, state, waiting, foundKept, settingsDiffer });
  const kept = new Set(plan.transitions.map(({ service, to }) => `${service}/${to}`));
  for (const one of waiting)
    if (!kept.has(`${one.service}/${one.to}`)) await workshop.staging.destroy(one.service, one.to);
  const steps = plan.steps.length === 0 ? ['settle'] : [...plan.steps];
  return { ...emptyJournal('applying'), desired, transitions: [...plan.transitions], steps };
}

/** A set that was left for running VMs by an earlier removal keeps its number. */
async function numbered(workshop: Workshop, state: ApplyState): Promise<ApplyState> {
  let result = state;
  for (const service of SERVICES) {
    const highest = Math.max(0, ...(await workshop.serving.generations(service)));
    if (highest > 0)
      result = withService(result, service, (known) => ({
        ...known,
        lastNumber: Math.max(known.lastNumber, highest),
      }));
  }
  return result;
}

async function differences(workshop: Workshop, desired: DesiredState, state: ApplyState) {
  const facts = await workshop.options.effects.facts();
  const manifest = await workshop.found.read();
  if (manifest === undefined) return { foundKept: false, settingsDiffer: true };
  const sockets = JSON.stringify(targetSockets(desired, manifest, facts)) !== JSON.stringify(facts.sockets);
  const files = await workshop.settings.differs(manifest, desired, facts, state.ownKeys);
  return { foundKept: keepsEveryService(manifest), settingsDiffer: sockets || files };
}
