import { createHash } from 'node:crypto';
import { basename, dirname } from 'node:path';
import type { Instant } from '@virt-trust/base/instant.ts';
import { isSpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { ServedEndpoint } from '@virt-trust/contract/model/observed-state.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import type { HostFacts } from '../services/host-effects.ts';
import { LAYOUTS } from '../sets/layout.ts';
import { REPAIR_LIMIT } from '../sets/repair-count.ts';
import { contestedPath, type Expected, line } from './judge.ts';
import type { Watched } from './rounds.ts';
import type { Workshop } from './workshop.ts';

type Found = Omit<ServedEndpoint, 'since'>;

/** When QEMU reads the files of a service that nothing listens with meanwhile. */
const READ_AT = {
  migration: 'read at each migration',
  nbd: 'read when a disk is attached',
  backup: 'read for each backup',
} as const;
type FileService = keyof typeof READ_AT;
const FILE_SERVICES: readonly FileService[] = ['migration', 'nbd', 'backup'];

/**
 * The files that QEMU reads at the next migration, backup or disk, through the links where it looks, as its own user
 * reads them: the very bytes of the generation, or not.
 */
export async function filesOfServices(
  workshop: Workshop,
  facts: HostFacts,
  expected: ReadonlyMap<Service, Expected>,
): Promise<Found[]> {
  const found: Found[] = [];
  for (const service of FILE_SERVICES) {
    const one = expected.get(service);
    if (one !== undefined) found.push(await filesOf(service, workshop, facts, one));
  }
  return found;
}

async function filesOf(
  service: FileService,
  workshop: Workshop,
  facts: HostFacts,
  expected: Expected,
): Promise<Found> {
  const layout = LAYOUTS[service];
  const { paths, effects, clock } = workshop.options;
  const links = layout.links.filter(({ name }) => layout.files.some((file) => file.name === name));
  const seen = await effects.digestsForQemu(
    links.map(({ path }) => paths.at(path)),
    facts,
  );
  const known = (await workshop.state()).services.find((one) => one.service === service);
  const number = known?.current?.number;
  const wrong: string[] = [];
  for (const { path, name } of links) {
    const staged = number === undefined ? undefined : await workshop.staging.file(service, number, name);
    const digest = seen.get(paths.at(path));
    if (digest === undefined) wrong.push(`${path} cannot be read by the QEMU user`);
    else if (staged !== undefined && digest !== createHash('sha256').update(staged).digest('hex'))
      wrong.push(`${path} is another file`);
  }
  const rescued = expected.rescue !== null;
  return {
    service,
    target: dirname(links[0]?.path ?? ''),
    vm: null,
    expectedPin: expected.pin,
    servedPin: wrong.length === 0 ? expected.pin : null,
    state: wrong.length === 0 || rescued ? 'as-desired' : 'drifted',
    detail: wrong.length === 0 ? READ_AT[service] : line(wrong.join('; ')),
    action: wrong.length === 0 ? '' : 'see that the QEMU user may enter and read what the links lead to',
    at: clock.now(),
  };
}

/** Files, links and settings that something changed back after each repair. */
export async function contestedPaths(workshop: Workshop): Promise<Found[]> {
  const { repairs, services } = await workshop.state();
  const at: Instant = workshop.options.clock.now();
  return repairs
    .filter(({ count }) => count > REPAIR_LIMIT)
    .flatMap(({ path }) => {
      const service = serviceOf(workshop, path);
      const pin = services.find((one) => one.service === service)?.current?.pin;
      return isSpkiPin(pin) ? [contestedPath(service, path, pin, at)] : [];
    });
}

/** The files and links of ours, by directory: whoever touches one is seen at once. */
export async function watchedPaths(workshop: Workshop): Promise<Watched> {
  const { serving, options } = workshop;
  const { paths } = options;
  const watched = new Map<string, Set<string>>();
  const add = (path: string) => {
    const names = watched.get(dirname(path)) ?? new Set();
    watched.set(dirname(path), names.add(basename(path)));
  };
  const served = (await workshop.state()).services.filter(({ current }) => current !== null);
  for (const { service, current } of served) {
    for (const { path } of LAYOUTS[service].links) add(paths.at(path));
    add(serving.currentLink(service));
    for (const { name } of LAYOUTS[service].files)
      add(`${serving.directory(service, current?.number ?? 0)}/${name}`);
  }
  if (served.length > 0)
    for (const name of ['libvirtd.conf', 'virtproxyd.conf', 'qemu.conf']) {
      add(paths.at(`/etc/libvirt/${name}`));
      add(`${paths.effectiveEtc}/${name}`);
    }
  return watched;
}

/** Whose path it is; the configuration of QEMU's services counts as migration's, which every host has. */
function serviceOf(workshop: Workshop, path: string): Service {
  const { paths } = workshop.options;
  const found = SERVICES.find(
    (service) =>
      path.startsWith(`${paths.services}/${service}/`) ||
      LAYOUTS[service].links.some((link) => link.path === path || paths.at(link.path) === path) ||
      LAYOUTS[service].wholeDirectory?.path === path,
  );
  return found ?? (basename(path) === 'qemu.conf' ? 'migration' : 'libvirt');
}
