import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError } from '@virt-trust/base/error.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import type { Workshop } from '../served/workshop.ts';
import type { HostFacts } from '../services/host-effects.ts';
import { EMPTY_STATE } from '../sets/apply-state.ts';
import { clean } from '../sets/failure.ts';
import { CONFIGURED_DIRECTORIES, LAYOUTS } from '../sets/layout.ts';
import { FOUND_GENERATION } from '../sets/serving.ts';
import { readsDefaults } from './reads-defaults.ts';
import type { StepContext } from './run.ts';

export async function settings(context: StepContext): Promise<void> {
  const { workshop } = context;
  const { ownKeys } = await workshop.state();
  const outcome = await workshop.settings.giveBack(await workshop.manifest(), ownKeys);
  note(context, outcome.restored, outcome.left);
}

export async function switchService(context: StepContext, service: Service): Promise<void> {
  const { workshop, facts } = context;
  if (!(await workshop.serving.serves(service)) || isHeldByVms(context, service)) return;
  await workshop.serving.carryOverToFound(LAYOUTS[service], facts.qemuGid);
  await workshop.serving.switchTo(LAYOUTS[service], FOUND_GENERATION);
}

export async function daemon(context: StepContext): Promise<void> {
  const { workshop, journal, facts } = context;
  const sockets = (await workshop.manifest()).sockets ?? facts.sockets;
  await orLeave(context, 'the libvirt daemon', () =>
    workshop.options.effects.bringDaemon({ sockets, restart: journal.settingsChanged }),
  );
}

export async function links(context: StepContext, service: Service): Promise<void> {
  const { workshop } = context;
  const { restored, left } = await workshop.links.giveBack(LAYOUTS[service], await workshop.manifest());
  note(context, restored, left);
}

export async function reload(context: StepContext, service: Service): Promise<void> {
  const { workshop, facts } = context;
  const manifest = await workshop.manifest();
  if (!readsDefaults(manifest, service)) return;
  const { tls } = manifest.sockets ?? facts.sockets;
  if (service === 'libvirt' && !tls.active) return;
  await orLeave(context, service, () => workshop.options.effects.reload(service, facts));
}

export async function ports(context: StepContext): Promise<void> {
  await orLeave(context, 'the firewall', () => context.workshop.options.effects.closePorts());
}

export async function reading(context: StepContext): Promise<void> {
  await orLeave(context, 'the security module', () => context.workshop.options.effects.forbidReading());
}

/** Forgets all that was applied, keys included, but what running VMs need; nobody is obeyed any more. */
export async function state(context: StepContext): Promise<void> {
  const { workshop } = context;
  await forget(context);
  await workshop.removeState();
  await rm(workshop.options.paths.desiredState, { force: true });
}

/** Forgets the same, and goes on with what is desired: no TLS. Numbers of generations are not given out again. */
export async function off(context: StepContext): Promise<void> {
  const { workshop } = context;
  const before = await workshop.state();
  await forget(context);
  const { desired, left } = context.journal;
  await workshop.saveState({
    ...EMPTY_STATE,
    epoch: desired?.epoch ?? before.epoch,
    number: desired?.number ?? before.number,
    ...(desired === null ? {} : { settings: desired.settings }),
    services: before.services.map(({ service, lastNumber }) => ({
      service,
      lastNumber,
      current: null,
      proofs: [],
      failure: null,
    })),
    left,
  });
}

/** Where TLS was switched off: a VM that was started with our certificates may be gone by now, then its set goes too. */
export async function clearLeft(workshop: Workshop, facts: HostFacts): Promise<void> {
  const state = await workshop.state();
  if (startedWithOurs(facts).length > 0) return;
  if ((await workshop.serving.generations('vnc')).length > 0) await workshop.serving.removeAll('vnc');
  const left = state.left?.filter((words) => !words.startsWith(leftFor('vnc'))) ?? [];
  if (left.length !== (state.left?.length ?? 0)) await workshop.saveState({ ...state, left });
}

async function forget(context: StepContext): Promise<void> {
  const { workshop } = context;
  const { paths } = workshop.options;
  for (const service of SERVICES) {
    if (isHeldByVms(context, service)) await leaveForVms(context, service);
    else await workshop.serving.removeAll(service);
    await workshop.rescuer.forget(service);
  }
  await workshop.staging.destroyAll();
  await workshop.crls.forget();
  for (const path of [paths.effectiveEtc, join(paths.agent, 'settings-before')])
    await rm(path, { recursive: true, force: true });
  await workshop.verdict.remove();
  await rm(join(paths.found, 'manifest.json'), { force: true });
  await rm(join(paths.found, 'copies'), { recursive: true, force: true });
}

const leftFor = (service: Service) => `/var/lib/virt-trust/services/${service}`;

async function leaveForVms(context: StepContext, service: Service): Promise<void> {
  const { serving } = context.workshop;
  const current = await serving.current(service);
  for (const number of await serving.generations(service))
    if (number !== current) await serving.destroy(service, number);
  const vms = startedWithOurs(context.facts).join(', ').slice(0, 2000);
  const what = leftFor(service);
  note(
    context,
    [],
    [
      `${what}: stays with the last certificate, because running VMs were started with it (${vms}); remove it once they were restarted or migrated away`,
    ],
  );
}

/** A VM keeps the directory of its VNC server for life. */
function isHeldByVms(context: StepContext, service: Service): boolean {
  return service === 'vnc' && startedWithOurs(context.facts).length > 0;
}

function startedWithOurs({ vms }: HostFacts): string[] {
  return vms
    .filter(({ vnc }) => vnc.some(({ tlsDirectory }) => tlsDirectory === CONFIGURED_DIRECTORIES.vnc))
    .map(({ name }) => name);
}

function note(context: StepContext, restored: readonly string[], left: readonly string[]): void {
  const { journal } = context;
  context.journal = {
    ...journal,
    restored: [...new Set([...journal.restored, ...restored])].slice(0, 500),
    left: [...new Set([...journal.left, ...left])].slice(0, 500),
  };
}

/** Files are given back whatever processes do; what did not work is said. */
async function orLeave(context: StepContext, what: string, action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    note(context, [], [clean(`${what}: ${describeError(error)}`)]);
  }
}
