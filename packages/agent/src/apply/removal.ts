import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describeError } from '@virt-trust/base/error.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { readsDefaults } from './backward-steps.ts';
import { clean } from './failure.ts';
import { LAYOUTS, QEMU_DIRECTORIES } from './layout.ts';
import type { StepContext } from './run.ts';
import { FOUND_GENERATION } from './serving.ts';

export async function settings(context: StepContext): Promise<void> {
  const { workshop } = context;
  const { ownKeys } = await workshop.state();
  const outcome = await workshop.settings.giveBack(await workshop.manifest(), ownKeys);
  note(context, outcome.restored, outcome.left);
}

export async function switchService(context: StepContext, service: Service): Promise<void> {
  const { workshop, facts } = context;
  if ((await workshop.serving.current(service)) === undefined || (await keepsFiles(context, service))) return;
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
  const { workshop, facts } = context;
  const keepFiles = await keepsFiles(context, service);
  const manifest = await workshop.manifest();
  const { restored, left } = await workshop.links.giveBack(LAYOUTS[service], manifest, {
    keepFiles,
    qemuGid: facts.qemuGid,
  });
  if (keepFiles) {
    const vms = startedWithOurs(context).join(', ');
    left.push(
      `${QEMU_DIRECTORIES.vnc}: stays with the last certificate, because running VMs were started with it (${vms}); remove it once they were restarted or migrated away`.slice(
        0,
        4000,
      ),
    );
  }
  note(context, restored, left);
}

export async function reload(context: StepContext, service: Service): Promise<void> {
  const { workshop, facts } = context;
  if (!(await readsDefaults(context, service))) return;
  const { tls } = (await workshop.manifest()).sockets ?? facts.sockets;
  if (service === 'libvirt' && !tls.active) return;
  await orLeave(context, service, () => workshop.options.effects.reload(service, facts));
}

export async function ports(context: StepContext): Promise<void> {
  await orLeave(context, 'the firewall', () => context.workshop.options.effects.closePorts());
}

export async function reading(context: StepContext): Promise<void> {
  await orLeave(context, 'the security module', () => context.workshop.options.effects.forbidReading());
}

/** Forgets all that was applied, keys included; what others put in the place of files found stays kept. */
export async function state({ workshop }: StepContext): Promise<void> {
  const { paths } = workshop.options;
  await workshop.staging.destroyAll();
  await workshop.removeState();
  await rm(paths.desiredState, { force: true });
  for (const path of [paths.services, paths.effectiveEtc, join(paths.agent, 'settings-before')])
    await rm(path, { recursive: true, force: true });
  await workshop.verdict.remove();
  await rm(join(paths.found, 'manifest.json'), { force: true });
  await rm(join(paths.found, 'copies'), { recursive: true, force: true });
}

/** Running VMs go on with the directory they were started with, where nothing found takes its place. */
async function keepsFiles(context: StepContext, service: Service): Promise<boolean> {
  return service === 'vnc' && !(await readsDefaults(context, 'vnc')) && startedWithOurs(context).length > 0;
}

function startedWithOurs({ facts }: StepContext): string[] {
  return facts.vms
    .filter(({ vnc }) => vnc.some(({ tlsDirectory }) => tlsDirectory === QEMU_DIRECTORIES.vnc))
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
