import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { isTrustError } from '@virt-trust/base/error.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { withService } from '../sets/apply-state.ts';
import { foundIdentity } from '../sets/found.ts';
import { LAYOUTS } from '../sets/layout.ts';
import { FOUND_GENERATION } from '../sets/serving.ts';
import { proveGeneration, transitionOf } from './forward-steps.ts';
import { readsDefaults } from './reads-defaults.ts';
import type { StepContext } from './run.ts';

export async function settings(context: StepContext): Promise<void> {
  const { workshop, journal } = context;
  await workshop.settings.goBack(await workshop.manifest());
  if (journal.ownKeysBefore === null) return;
  await workshop.saveState({ ...(await workshop.state()), ownKeys: journal.ownKeysBefore });
}

export async function switchService(context: StepContext, service: Service): Promise<void> {
  const { workshop, facts } = context;
  const { from } = transitionOf(context, service);
  if (from === null) await workshop.serving.carryOverToFound(LAYOUTS[service], facts.qemuGid);
  await workshop.serving.switchTo(LAYOUTS[service], from ?? FOUND_GENERATION);
}

export async function daemon({ workshop, journal, facts }: StepContext): Promise<void> {
  const sockets = journal.sockets ?? facts.sockets;
  try {
    await workshop.options.effects.bringDaemon({ sockets, restart: journal.settingsChanged });
  } catch (error) {
    // A daemon that an administrator stopped reads its files when he starts it.
    if (!isTrustError(error, 'libvirt.stopped')) throw error;
  }
}

export async function links({ workshop }: StepContext, service: Service): Promise<void> {
  await workshop.links.giveBack(LAYOUTS[service], await workshop.manifest());
}

export async function reload(context: StepContext, service: Service): Promise<void> {
  const { workshop, facts } = context;
  if (service === 'libvirt' && context.journal.failure?.failure.code === 'libvirt.stopped') return;
  const { from } = transitionOf(context, service);
  const { certificate } = foundIdentity(await workshop.manifest(), service);
  // Where nothing was found there is nothing to read again.
  if (from !== null || (certificate !== null && readsDefaults(await workshop.manifest(), service)))
    await workshop.options.effects.reload(service, facts);
}

export async function prove(context: StepContext, service: Service): Promise<void> {
  const { from } = transitionOf(context, service);
  if (from !== null) await proveGeneration(context, service, from);
}

export async function ports({ workshop }: StepContext): Promise<void> {
  await workshop.options.effects.closePorts();
}

/** Records why, and destroys what was made in vain. */
export async function settle(context: StepContext): Promise<void> {
  const { workshop, journal } = context;
  const { options } = workshop;
  let state = await workshop.state();
  const cause = journal.failure;
  for (const { service } of journal.transitions) {
    const own = cause !== null && (cause.service === null || cause.service === service);
    const failure =
      cause === null || own
        ? (cause?.failure ?? null)
        : {
            ...cause.failure,
            code: 'apply.went_back_along',
            message: `went back together with ${cause.service}, which failed: ${cause.failure.message}`.slice(
              0,
              4000,
            ),
          };
    state = withService(state, service, (known) => ({ ...known, failure }));
  }
  if (cause?.service != null && !journal.transitions.some(({ service }) => service === cause.service))
    state = withService(state, cause.service, (known) => ({ ...known, failure: cause.failure }));
  state = { ...state, failure: cause?.service === null ? cause.failure : null };
  if (journal.desired !== null)
    state = { ...state, epoch: journal.desired.epoch, number: journal.desired.number };
  await workshop.saveState(state);
  for (const { service, from, to } of journal.transitions) {
    if (from === null) await workshop.serving.removeAll(service);
    else await workshop.serving.destroy(service, to);
    // Requests that a newer desired state may still want are kept; cleaning takes them away otherwise.
    if (cause?.failure.code !== 'apply.superseded') await workshop.staging.destroy(service, to);
  }
  if (state.services.every(({ current }) => current === null)) await forgetFound(context);
  await options.emit('apply.went_back', cause?.service ?? 'host', 'the former state is back');
}

/** Nothing is virt-trust's on this host: what is found the next time may be something else. */
async function forgetFound({ workshop }: StepContext): Promise<void> {
  const manifest = await workshop.found.read();
  if (manifest === undefined) return;
  const state = await workshop.state();
  await workshop.settings.giveBack(manifest, state.ownKeys);
  const { paths } = workshop.options;
  await rm(join(paths.found, 'manifest.json'), { force: true });
  await rm(paths.effectiveEtc, { recursive: true, force: true });
}
