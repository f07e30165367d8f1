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
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import { replaceLink, syncDirectory, writeFileAtomic } from '../state/atomic-file.ts';
import type { AgentPaths } from '../state/paths.ts';
import { type Found, type FoundManifest, foundAt } from './found.ts';
import { attributesFor, linksOf, type ServiceLayout, type ServiceLink } from './layout.ts';
import { FOUND_GENERATION, othersIn, type Serving } from './serving.ts';

/** What giving paths back came to. */
export interface Restored {
  readonly restored: string[];
  readonly left: string[];
}

/** The links from the paths where libvirt and QEMU look into the generation that is served. */
export class Links {
  readonly #paths: AgentPaths;
  readonly #found: Found;
  readonly #serving: Serving;

  constructor(paths: AgentPaths, found: Found, serving: Serving) {
    this.#paths = paths;
    this.#found = found;
    this.#serving = serving;
  }

  /** The links that a service has on this host. */
  of(layout: ServiceLayout, manifest: FoundManifest): readonly ServiceLink[] {
    const whole = layout.wholeDirectory;
    return linksOf(layout, whole !== undefined && foundAt(manifest, whole.path).kind === 'absent');
  }

  /** Where a link must point. */
  target(layout: ServiceLayout, link: ServiceLink): string {
    return join(this.#serving.currentLink(layout.service), link.name);
  }

  /**
   * Takes a service's paths over: a generation of what is there is served first, so that each path resolves to the
   * very bytes that it had while the links are put one by one.
   */
  async put(layout: ServiceLayout, manifest: FoundManifest, qemuGid: number): Promise<void> {
    const links = this.of(layout, manifest);
    await this.#serving.installFound(layout, qemuGid, await this.#foundFiles(layout, manifest));
    // Something is served already where links are put again, or VMs kept a set from before an earlier removal.
    if (!(await this.#serving.serves(layout.service))) await this.#serving.switchTo(layout, FOUND_GENERATION);
    for (const directory of layout.directories) await this.#makeDirectory(layout, directory, qemuGid);
    for (const link of links) {
      if (await this.#isOurs(layout, link)) continue;
      await this.#displace(manifest, link.path);
      await replaceLink(this.#paths.at(link.path), this.target(layout, link));
    }
  }

  /** Links that somebody replaced or removed. */
  async disturbed(layout: ServiceLayout, manifest: FoundManifest): Promise<string[]> {
    const wrong: string[] = [];
    for (const link of this.of(layout, manifest))
      if (!(await this.#isOurs(layout, link))) wrong.push(link.path);
    return wrong;
  }

  /** Gives a service's paths back what was found there. */
  async giveBack(layout: ServiceLayout, manifest: FoundManifest): Promise<Restored> {
    const outcome: Restored = { restored: [], left: [] };
    for (const link of this.of(layout, manifest)) {
      const found = foundAt(manifest, link.path);
      if (!(await this.#isOurs(layout, link))) {
        const there = await lstat(this.#paths.at(link.path)).catch(ignoreMissing);
        if (there !== undefined && found.kind === 'absent')
          outcome.left.push(`${link.path}: somebody replaced virt-trust's link by it`);
        if (there !== undefined || found.kind === 'absent') continue;
      }
      if (link === layout.wholeDirectory) await this.#giveBackDirectory(layout, link, outcome);
      else await this.#found.restore(manifest, found);
      outcome.restored.push(link.path);
    }
    for (const directory of layout.directories.toReversed()) {
      if (foundAt(manifest, directory).kind !== 'absent') continue;
      const gone = await rmdir(this.#paths.at(directory)).then(
        () => true,
        () => false,
      );
      if (gone) outcome.restored.push(directory);
    }
    return outcome;
  }

  async #isOurs(layout: ServiceLayout, link: ServiceLink): Promise<boolean> {
    const target = await readlink(this.#paths.at(link.path)).catch(ignoreNoLink);
    return target === this.target(layout, link);
  }

  async #makeDirectory(layout: ServiceLayout, directory: string, qemuGid: number): Promise<void> {
    const path = this.#paths.at(directory);
    const there = await stat(path).catch(ignoreMissing);
    if (there?.isDirectory()) return;
    await mkdir(path);
    // Only the innermost is for the service alone; those above it are everybody's.
    const readers = directory === layout.directories.at(-1) ? layout.readers : 'all';
    const { mode, uid, gid } = attributesFor(readers, 'directory', qemuGid);
    await chown(path, uid, gid);
    await chmod(path, mode);
    await syncDirectory(dirname(path));
  }

  /** A file that came to a path since the manifest was written is kept as well. */
  async #displace(manifest: FoundManifest, hostPath: string): Promise<void> {
    const path = this.#paths.at(hostPath);
    const status = await lstat(path).catch(ignoreMissing);
    if (status === undefined || status.isSymbolicLink()) return;
    if (!status.isFile()) {
      throw new TrustError(
        'adoption.not_a_file',
        'conflict',
        `cannot link ${hostPath}: it is no regular file`,
        {
          hint: `move ${hostPath} out of the way, then try again`,
        },
      );
    }
    const content = await readFile(path);
    if ((await this.#found.content(manifest, hostPath))?.equals(content)) return;
    const directory = join(this.#paths.found, 'displaced');
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const taken = (await readdir(directory)).length;
    const name = `${String(taken).padStart(4, '0')}-${hostPath.replaceAll('/', '_')}`;
    await writeFileAtomic(join(directory, name), content, { mode: 0o600 });
  }

  /** Contents of the linked paths, as they were found. */
  async #foundFiles(layout: ServiceLayout, manifest: FoundManifest) {
    const files = await Promise.all(
      layout.links.map(async ({ path, name }) => {
        const found = foundAt(manifest, path);
        const content = await this.#found.content(manifest, path);
        if (content === undefined || (found.kind !== 'file' && found.kind !== 'link') || found.file === null)
          return [];
        const { mode, uid, gid } = found.file;
        return [{ name, content, mode, uid, gid }];
      }),
    );
    return files.flat();
  }

  /** The link to a whole directory goes; what others put into it stays, in a real directory. */
  async #giveBackDirectory(layout: ServiceLayout, link: ServiceLink, outcome: Restored): Promise<void> {
    const path = this.#paths.at(link.path);
    const from = join(this.#serving.currentLink(layout.service), link.name);
    const others = await othersIn(
      from,
      link.name,
      layout.files.map(({ name }) => name),
    );
    if (others.length === 0) {
      await rm(path, { force: true });
      return;
    }
    const next = `${path}.virt-trust-new`;
    await rm(next, { recursive: true, force: true });
    await mkdir(next, { mode: 0o700 });
    for (const name of others) {
      const { mode, uid, gid } = await stat(join(from, name));
      await writeFileAtomic(join(next, name), await readFile(join(from, name)), {
        mode: mode & 0o7777,
        uid,
        gid,
      });
    }
    await rm(path, { force: true });
    await rename(next, path);
    await syncDirectory(dirname(path));
    outcome.left.push(`${link.path}: holds ${others.join(', ')}, which others put there`);
  }
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
  throw error;
}

function ignoreNoLink(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'EINVAL' || error.code === 'ENOTDIR') return undefined;
  throw error;
}
