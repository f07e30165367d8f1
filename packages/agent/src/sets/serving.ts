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
  rmdir,
  stat,
  symlink,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { readFileIfPresent, replaceLink, syncDirectory, writeFileAtomic } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';
import { attributesFor, type ServiceLayout } from './layout.ts';
import type { Staging } from './staging.ts';

/** The generation of what was found at a service's own paths, from before virt-trust. */
export const FOUND_GENERATION = 0;

/** Where a generation's name for the CRL points: out of it, to `services/SERVICE/crl.pem`, which may not be there. */
const CRL_TARGET = '../../crl.pem';

/** The generations that daemons and VMs read: directories, and the one link that says which is served. */
export class Serving {
  readonly #paths: AgentPaths;
  readonly #staging: Staging;

  constructor(paths: AgentPaths, staging: Staging) {
    this.#paths = paths;
    this.#staging = staging;
  }

  /** The link that is switched, which the links elsewhere on the host point through. */
  currentLink(service: Service): string {
    return join(this.#paths.services, service, 'current');
  }

  directory(service: Service, generation: number): string {
    return join(this.#paths.services, service, 'generations', String(generation));
  }

  /** Whether anything is served: a generation, or a rescue set in its place. */
  async serves(service: Service): Promise<boolean> {
    return (await readlink(this.currentLink(service)).catch(ignoreMissing)) !== undefined;
  }

  /** The generation that the link names, undefined where there is no link or it names a rescue set. */
  async current(service: Service): Promise<number | undefined> {
    const target = await readlink(this.currentLink(service)).catch(ignoreMissing);
    const number = /^generations\/(\d{1,15})$/.exec(target ?? '')?.[1];
    return number === undefined ? undefined : Number(number);
  }

  /** Copies a staged set to where it is served from, whole or not at all. */
  async install(layout: ServiceLayout, generation: number, qemuGid: number): Promise<void> {
    const { service } = layout;
    await this.#build(layout, generation, qemuGid, async (directory) => {
      for (const file of layout.files) {
        const content = await this.#staging.file(service, generation, file.name);
        if (content === undefined) throw lost(service, generation, file.name);
        const path = join(directory, file.name);
        await this.#enter(layout, directory, dirname(path), qemuGid);
        await writeFileAtomic(path, content, attributesFor(file.readers, 'file', qemuGid));
      }
      await this.#carryOver(layout, directory, qemuGid);
      if (layout.crl !== undefined) await symlink(CRL_TARGET, join(directory, layout.crl));
    });
  }

  /** Makes the generation of what was found at a service's own paths, with modes and owners as they were. */
  async installFound(
    layout: ServiceLayout,
    qemuGid: number,
    files: readonly { name: string; content: Uint8Array; mode: number; uid: number; gid: number }[],
  ): Promise<void> {
    await this.#build(layout, FOUND_GENERATION, qemuGid, async (directory) => {
      for (const { name, content, mode, uid, gid } of files) {
        const path = join(directory, name);
        await this.#enter(layout, directory, dirname(path), qemuGid);
        await writeFileAtomic(path, content, { mode, uid, gid });
      }
    });
  }

  /** The one atomic switch; checked after, and done again once where it did not hold. */
  async switchTo(layout: ServiceLayout, generation: number): Promise<void> {
    const { service } = layout;
    for (let attempt = 0; attempt < 2; attempt++) {
      await replaceLink(this.currentLink(service), `generations/${generation}`);
      if ((await this.current(service)) === generation && (await this.#reads(layout, generation))) return;
    }
    throw new TrustError(
      'generation.not_switched',
      'conflict',
      `cannot switch ${service} to generation ${generation}: ${this.currentLink(service)} does not stay as it was set`,
      {
        hint: 'something else on this host changes files below /var/lib/virt-trust; stop it, then try again',
      },
    );
  }

  /** Takes what others put into the served generation along to the one of what was found, before going back to it. */
  async carryOverToFound(layout: ServiceLayout, qemuGid: number): Promise<void> {
    if ((await this.current(layout.service)) === FOUND_GENERATION) return;
    await this.#carryOver(layout, this.directory(layout.service, FOUND_GENERATION), qemuGid);
  }

  /** Files of the served generation that are not as they were installed. */
  async disturbed(layout: ServiceLayout, generation: number, qemuGid: number): Promise<string[]> {
    const found: string[] = [];
    for (const file of layout.files) {
      const path = join(this.directory(layout.service, generation), file.name);
      const expected = await this.#staging.file(layout.service, generation, file.name);
      const has = await readFileIfPresent(path);
      const status = await lstat(path).catch(ignoreMissing);
      const wanted = attributesFor(file.readers, 'file', qemuGid);
      const good =
        expected !== undefined &&
        has?.equals(expected) === true &&
        status?.isFile() === true &&
        (status.mode & 0o7777) === wanted.mode &&
        status.uid === wanted.uid &&
        status.gid === wanted.gid;
      if (!good && expected !== undefined) found.push(path);
    }
    if (layout.crl !== undefined && !(await this.#leadsToCrl(layout.service, generation, layout.crl)))
      found.push(join(this.directory(layout.service, generation), layout.crl));
    return found;
  }

  /** Writes one file of a generation again as it was installed. */
  async repair(layout: ServiceLayout, generation: number, qemuGid: number): Promise<void> {
    for (const file of layout.files) {
      const content = await this.#staging.file(layout.service, generation, file.name);
      if (content === undefined) continue;
      const path = join(this.directory(layout.service, generation), file.name);
      await this.#enter(layout, this.directory(layout.service, generation), dirname(path), qemuGid);
      await writeFileAtomic(path, content, attributesFor(file.readers, 'file', qemuGid));
    }
    if (layout.crl !== undefined)
      await replaceLink(join(this.directory(layout.service, generation), layout.crl), CRL_TARGET);
  }

  /** Removes a generation with its private key; the served one is never removed. */
  async destroy(service: Service, generation: number): Promise<void> {
    if ((await this.current(service)) === generation) return;
    await rm(this.directory(service, generation), { recursive: true, force: true });
  }

  /** The CRL of a service, the same for all its generations; nothing where there is none. */
  crlFile(service: Service): string {
    return join(this.#paths.services, service, 'crl.pem');
  }

  /** The numbers of the generations there are. */
  async generations(service: Service): Promise<number[]> {
    const names = await readdir(join(this.#paths.services, service, 'generations')).catch(ignoreMissing);
    return (names ?? []).filter((name) => /^\d{1,15}$/.test(name)).map(Number);
  }

  async removeAll(service: Service): Promise<void> {
    await rm(join(this.#paths.services, service), { recursive: true, force: true });
    await rmdir(this.#paths.services).catch(() => {});
  }

  async #build(
    layout: ServiceLayout,
    generation: number,
    qemuGid: number,
    fill: (directory: string) => Promise<void>,
  ): Promise<void> {
    const { service } = layout;
    const directory = this.directory(service, generation);
    const making = join(dirname(directory), `.${generation}.new`);
    for (const path of [this.#paths.services, join(this.#paths.services, service), dirname(directory)]) {
      await mkdir(path, { recursive: true });
      await chmod(path, 0o711);
    }
    if (await exists(directory)) {
      // Whole, because it got its name last; what was served from it once stays as it is.
      return;
    }
    await rm(making, { recursive: true, force: true });
    await mkdir(making, { mode: 0o700 });
    await fill(making);
    const { mode, uid, gid } = attributesFor(layout.readers, 'directory', qemuGid);
    await chown(making, uid, gid);
    await chmod(making, mode);
    await syncDirectory(making);
    await rename(making, directory);
    await syncDirectory(dirname(directory));
  }

  async #enter(layout: ServiceLayout, root: string, directory: string, qemuGid: number): Promise<void> {
    if (directory === root) return;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const { uid, gid } = attributesFor(layout.readers, 'directory', qemuGid);
    await chown(directory, uid, gid);
  }

  /** What others put beside our key while its directory was a link to ours goes along. */
  async #carryOver(layout: ServiceLayout, directory: string, qemuGid: number): Promise<void> {
    const whole = layout.wholeDirectory;
    if (whole === undefined || !(await this.serves(layout.service))) return;
    const from = join(this.currentLink(layout.service), whole.name);
    const ours = layout.files.map(({ name }) => name);
    for (const name of await othersIn(from, whole.name, ours)) {
      await this.#enter(layout, directory, join(directory, whole.name), qemuGid);
      const { mode, uid, gid } = await stat(join(from, name));
      const content = await readFile(join(from, name));
      await writeFileAtomic(join(directory, whole.name, name), content, { mode: mode & 0o7777, uid, gid });
    }
  }

  async #leadsToCrl(service: Service, generation: number, name: string): Promise<boolean> {
    const path = join(this.directory(service, generation), name);
    return (await readlink(path).catch(() => undefined)) === CRL_TARGET;
  }

  async #reads(layout: ServiceLayout, generation: number): Promise<boolean> {
    if (generation === FOUND_GENERATION) return true;
    for (const file of layout.files) {
      const served = await readFileIfPresent(join(this.currentLink(layout.service), file.name));
      const staged = await this.#staging.file(layout.service, generation, file.name);
      if (staged !== undefined && served?.equals(staged) !== true) return false;
    }
    return true;
  }
}

/** Regular files in a directory that are not ours. */
export async function othersIn(
  directory: string,
  prefix: string,
  ours: readonly string[],
): Promise<string[]> {
  const entries = await readdir(directory, { withFileTypes: true }).catch(ignoreMissing);
  return (entries ?? [])
    .filter((entry) => entry.isFile() && !ours.includes(`${prefix}/${entry.name}`))
    .map(({ name }) => name);
}

async function exists(path: string): Promise<boolean> {
  return (await lstat(path).catch(ignoreMissing)) !== undefined;
}

function lost(service: Service, generation: number, name: string): TrustError {
  return new TrustError(
    'generation.lost',
    'failed',
    `cannot install generation ${generation} of ${service}: its staged ${name} is gone`,
  );
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
