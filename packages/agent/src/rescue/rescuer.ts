import {
  chmod,
  chown,
  lstat,
  mkdir,
  readdir,
  readFile,
  readlink,
  rename,
  rm,
  symlink,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { Clock } from '@virt-trust/base/clock.ts';
import { describeError } from '@virt-trust/base/error.ts';
import { type Randomness, systemRandomness } from '@virt-trust/base/randomness.ts';
import { Rescue } from '@virt-trust/contract/model/observed-state.ts';
import { Count } from '@virt-trust/contract/model/primitives.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import { parseConfiguration } from '@virt-trust/libvirt/configuration.ts';
import { encodeCertificatesPem, parseCertificates } from '@virt-trust/pki/certificate.ts';
import Type, { type Static } from 'typebox';
import { LAYOUTS, type ServiceLayout } from '../sets/layout.ts';
import { readFileIfPresent, replaceLink, syncDirectory, writeFileAtomic } from '../state/atomic-file.ts';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';
import { makeLocalSet, passes, type Remedy, remedyFor, type TimedSet } from './local-set.ts';

const RescueRecord = Type.Object(
  {
    ...Rescue.properties,
    kind: Type.Union([Type.Literal('trim'), Type.Literal('replace')]),
    /** The generation in whose place it is served. */
    base: Count,
    /** The name of its directory among the generations. */
    directory: Type.String({ pattern: '^rescue-\\d{1,15}$' }),
    /** Whether the agent has said so in its events. */
    told: Type.Boolean(),
  },
  { additionalProperties: false },
);
type RescueRecord = Static<typeof RescueRecord>;
const RescueRecords = Type.Object(
  { rescues: Type.Array(RescueRecord, { maxItems: 16 }) },
  { additionalProperties: false },
);

/** What a look at the services came to. */
export interface RescueOutcome {
  readonly made: readonly Rescue[];
  /** Services that serve their own set again, because its time is right again. */
  readonly ended: readonly Service[];
  /** What could not be done, in words. */
  readonly failed: readonly string[];
}

/**
 * Keeps sets whose time is not now from keeping VMs and daemons from starting. What is served instead stands beside
 * the generations and nothing is taken away: when the clock is right again, or a new generation comes, it is over.
 */
export class Rescuer {
  readonly #paths: AgentPaths;
  readonly #clock: Clock;
  readonly #randomness: Randomness;
  readonly #document: Document<typeof RescueRecords>;

  constructor(paths: AgentPaths, clock: Clock, randomness: Randomness = systemRandomness) {
    this.#paths = paths;
    this.#clock = clock;
    this.#randomness = randomness;
    this.#document = new Document(
      join(paths.agent, 'rescues.json'),
      RescueRecords,
      'Remove it; the host looks anew at its next check.',
    );
  }

  /** Looks at every service once; never throws. */
  async run(): Promise<RescueOutcome> {
    const outcome = { made: [] as Rescue[], ended: [] as Service[], failed: [] as string[] };
    for (const service of SERVICES) {
      try {
        const done = await this.#look(LAYOUTS[service]);
        if (done?.kind === 'made') outcome.made.push(done.rescue);
        else if (done?.kind === 'ended') outcome.ended.push(service);
      } catch (error) {
        outcome.failed.push(`${service}: ${describeError(error)}`);
      }
    }
    return outcome;
  }

  /** The rescues that are served now. */
  async active(): Promise<Rescue[]> {
    return (await this.#active()).map(({ service, reason, at }) => ({ service, reason, at }));
  }

  /** The generation in whose place each rescue is served. */
  async bases(): Promise<Map<Service, number>> {
    return new Map((await this.#active()).map(({ service, base }) => [service, base]));
  }

  /** Those that nobody was told of yet; from now on they count as told. */
  async untold(): Promise<Rescue[]> {
    const untold = (await this.#active()).filter(({ told }) => !told);
    if (untold.length === 0) return [];
    await this.#write((records) => records.map((one) => ({ ...one, told: true })));
    return untold.map(({ service, reason, at }) => ({ service, reason, at }));
  }

  /** Destroys a service's rescue set, key included, once something else is served. */
  async forget(service: Service): Promise<void> {
    const served = await this.#target(service);
    const generations = join(this.#paths.services, service, 'generations');
    for (const name of await readdir(generations).catch(() => []))
      if (/^\.?rescue-/.test(name) && served !== `generations/${name}`)
        await rm(join(generations, name), { recursive: true, force: true });
    const records = await this.#records();
    if (served?.startsWith('generations/rescue-') !== true && records.some((one) => one.service === service))
      await this.#write((all) => all.filter((one) => one.service !== service));
  }

  async #look(layout: ServiceLayout) {
    const { service } = layout;
    const served = await this.#target(service);
    const number = /^generations\/(\d{1,15})$/.exec(served ?? '')?.[1];
    const record = (await this.#active()).find((one) => one.service === service);
    const base = number === undefined ? record?.base : Number(number);
    // Of what was found before virt-trust came, nothing is touched.
    if (base === undefined || base === 0) return undefined;
    const directory = join(this.#paths.services, service, 'generations', String(base));
    const set = await readSet(layout, directory);
    if (set === undefined) return undefined;
    const at = this.#clock.now();
    const remedy = remedyFor(service, set, at, await this.#startsAnyway(service));
    if (remedy.kind === 'none') {
      if (record === undefined) return undefined;
      await replaceLink(join(this.#paths.services, service, 'current'), `generations/${base}`);
      await this.forget(service);
      return { kind: 'ended' } as const;
    }
    if (record?.kind === remedy.kind && (await this.#stands(layout, record))) return undefined;
    const rescue: Rescue = { service, reason: remedy.reason, at };
    await this.#make(layout, directory, base, set, remedy, rescue);
    return { kind: 'made', rescue } as const;
  }

  /** Whether the rescue set that is served is itself good still. */
  async #stands(layout: ServiceLayout, { directory }: RescueRecord): Promise<boolean> {
    const set = await readSet(layout, join(this.#paths.services, layout.service, 'generations', directory));
    return set !== undefined && passes(layout.service, set, this.#clock.now());
  }

  async #make(
    layout: ServiceLayout,
    from: string,
    base: number,
    set: TimedSet,
    remedy: Exclude<Remedy, { kind: 'none' }>,
    rescue: Rescue,
  ): Promise<void> {
    const { service } = layout;
    const [leaf] = set.certificates;
    if (leaf === undefined) return;
    const content =
      remedy.kind === 'trim'
        ? { bundle: encodeCertificatesPem(remedy.authorities) }
        : await makeLocalSet(
            service === 'libvirt' ? 'libvirt' : 'vnc',
            leaf,
            remedy.authorities,
            this.#randomness,
          );
    const files = new Map<string, string>();
    for (const { name, content: what } of layout.files) {
      const text = content[what as keyof typeof content];
      if (text !== undefined) files.set(name, text);
    }
    const generations = dirname(from);
    const name = `rescue-${await nextNumber(generations)}`;
    const making = join(generations, `.${name}.new`);
    await rm(making, { recursive: true, force: true });
    try {
      await copyWith(from, making, files);
      await rename(making, join(generations, name));
    } catch (error) {
      await rm(making, { recursive: true, force: true }).catch(() => {});
      throw error;
    }
    await syncDirectory(generations);
    const record: RescueRecord = { ...rescue, kind: remedy.kind, base, directory: name, told: false };
    await this.#write((all) => [...all.filter((one) => one.service !== service), record]);
    await replaceLink(join(this.#paths.services, service, 'current'), `generations/${name}`);
    for (const other of await readdir(generations))
      if (/^\.?rescue-/.test(other) && other !== name)
        await rm(join(generations, other), { recursive: true, force: true });
  }

  /**
   * Readers that start with a set out of its time: SPICE does not look, no VM reads migration's files at its start,
   * and libvirtd is told not to look.
   */
  async #startsAnyway(service: Service): Promise<boolean> {
    if (service !== 'libvirt') return service !== 'vnc';
    for (const daemon of ['libvirtd', 'virtproxyd']) {
      const path = this.#paths.at(`/etc/libvirt/${daemon}.conf`);
      const text = await readFileIfPresent(path);
      // Of two daemons' files only one is ours; which of them runs is not asked so early.
      if (text !== undefined && parseConfiguration(text, path).get('tls_no_sanity_certificate') === 1)
        return true;
    }
    return false;
  }

  async #active(): Promise<RescueRecord[]> {
    const active: RescueRecord[] = [];
    for (const record of await this.#records())
      if ((await this.#target(record.service)) === `generations/${record.directory}`) active.push(record);
    return active;
  }

  async #records(): Promise<RescueRecord[]> {
    // A damaged record must keep no VM from starting.
    return (await this.#document.read().catch(() => undefined))?.rescues ?? [];
  }

  async #write(change: (records: RescueRecord[]) => RescueRecord[]): Promise<void> {
    await this.#document.write({ rescues: change(await this.#records()) });
  }

  async #target(service: Service): Promise<string | undefined> {
    return await readlink(join(this.#paths.services, service, 'current')).catch(() => undefined);
  }
}

async function readSet(layout: ServiceLayout, directory: string): Promise<TimedSet | undefined> {
  const read = async (content: 'certificate' | 'bundle') => {
    const file = layout.files.find((one) => one.content === content);
    const bytes = file === undefined ? undefined : await readFileIfPresent(join(directory, file.name));
    return bytes === undefined ? undefined : parseCertificates(bytes.toString('utf8'));
  };
  const [certificates, authorities] = [await read('certificate'), await read('bundle')];
  return certificates === undefined || authorities === undefined ? undefined : { certificates, authorities };
}

async function nextNumber(generations: string): Promise<number> {
  const numbers = (await readdir(generations)).map((name) =>
    Number(/^rescue-(\d{1,14})$/.exec(name)?.[1] ?? 0),
  );
  return Math.max(0, ...numbers) + 1;
}

/** Copies a directory with owners and modes, some files with other content. */
async function copyWith(
  from: string,
  to: string,
  files: ReadonlyMap<string, string>,
  prefix = '',
): Promise<void> {
  const { mode, uid, gid } = await lstat(from);
  await mkdir(to, { mode: 0o700 });
  for (const entry of await readdir(from, { withFileTypes: true })) {
    const [source, target] = [join(from, entry.name), join(to, entry.name)];
    const name = `${prefix}${entry.name}`;
    if (entry.isDirectory()) await copyWith(source, target, files, `${name}/`);
    else if (entry.isSymbolicLink()) await symlink(await readlink(source), target);
    else if (entry.isFile()) {
      const status = await lstat(source);
      await writeFileAtomic(target, files.get(name) ?? (await readFile(source)), {
        mode: status.mode & 0o7777,
        uid: status.uid,
        gid: status.gid,
      });
    }
  }
  await chown(to, uid, gid);
  await chmod(to, mode & 0o7777);
  await syncDirectory(to);
}
