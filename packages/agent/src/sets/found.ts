import { createHash } from 'node:crypto';
import { lstat, mkdir, readFile, readlink, rm, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import { Count, Line, Path, Sha256Hex } from '@virt-trust/contract/model/primitives.ts';
import { SERVICES, type Service } from '@virt-trust/contract/model/service.ts';
import Type, { type Static } from 'typebox';
import { replaceLink, syncDirectory, writeFileAtomic } from '../state/atomic-file.ts';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';
import { Sockets } from './apply-state.ts';
import { LAYOUTS } from './layout.ts';

const strict = { additionalProperties: false };
const FILE_LIMIT = 1024 * 1024;

const Kept = Type.Object(
  {
    /** Name of the copy below `copies/`. */
    copy: Line,
    sha256: Sha256Hex,
    mode: Count,
    uid: Count,
    gid: Count,
    modifiedMs: Type.Number(),
  },
  strict,
);

/** What was found at a path before anything of virt-trust's stood there. */
export const FoundPath = Type.Union([
  Type.Object({ kind: Type.Literal('absent'), path: Path }, strict),
  Type.Object({ kind: Type.Literal('directory'), path: Path }, strict),
  Type.Object({ kind: Type.Literal('file'), path: Path, file: Kept }, strict),
  /** `file` is what the link led to; null where it led nowhere. */
  Type.Object(
    { kind: Type.Literal('link'), path: Path, target: Line, file: Type.Union([Kept, Type.Null()]) },
    strict,
  ),
]);
export type FoundPath = Static<typeof FoundPath>;

const OptionalPath = Type.Union([Path, Type.Null()]);

/** The files that a service used, by libvirt's rules, before virt-trust came. */
export const FoundIdentity = Type.Object(
  {
    ca: OptionalPath,
    crl: OptionalPath,
    certificate: OptionalPath,
    key: OptionalPath,
    clientCertificate: OptionalPath,
    clientKey: OptionalPath,
  },
  strict,
);
export type FoundIdentity = Static<typeof FoundIdentity>;

/** Everything that is needed to give the host back what it had; written once, before the first change. */
export const FoundManifest = Type.Object(
  {
    paths: Type.Array(FoundPath, { maxItems: 512 }),
    identities: Type.Object(
      {
        libvirt: FoundIdentity,
        migration: FoundIdentity,
        vnc: FoundIdentity,
        /** Missing where it was written by a version that did not know the service. */
        spice: Type.Optional(FoundIdentity),
        nbd: Type.Optional(FoundIdentity),
        backup: Type.Optional(FoundIdentity),
      },
      strict,
    ),
    sockets: Type.Union([Sockets, Type.Null()]),
    /** `libvirtd.conf` or `virtproxyd.conf`. */
    rpcConfiguration: Path,
    qemuConfiguration: Path,
  },
  strict,
);
export type FoundManifest = Static<typeof FoundManifest>;

/** What was found on the host: kept whole beside a manifest, and put back from there. */
export class Found {
  readonly #paths: AgentPaths;
  readonly #document: Document<typeof FoundManifest>;

  constructor(paths: AgentPaths) {
    this.#paths = paths;
    this.#document = new Document(
      join(paths.found, 'manifest.json'),
      FoundManifest,
      `The copies beside it, in ${join(paths.found, 'copies')}, are what the host had.`,
    );
  }

  async read(): Promise<FoundManifest | undefined> {
    return await this.#document.read();
  }

  /**
   * Copies what is at the paths and writes the manifest last, so that it exists only with all its copies. Nothing
   * is done where there is a manifest already.
   */
  async keep(
    what: Omit<FoundManifest, 'paths'> & { readonly paths: readonly string[] },
  ): Promise<FoundManifest> {
    const known = await this.read();
    if (known !== undefined) return await this.#extend(known, what);
    const copies = join(this.#paths.found, 'copies');
    await rm(this.#paths.found, { recursive: true, force: true });
    await mkdir(copies, { recursive: true, mode: 0o700 });
    const paths: FoundPath[] = [];
    for (const path of [...new Set(what.paths)]) paths.push(await this.#look(path, String(paths.length)));
    await syncDirectory(copies);
    const manifest: FoundManifest = { ...what, paths };
    await this.#document.write(manifest);
    await syncDirectory(this.#paths.state);
    return manifest;
  }

  /** Keeps what a service had that is new to a manifest; what was kept before stays as it is. */
  async #extend(
    known: FoundManifest,
    { identities, paths }: Pick<FoundManifest, 'identities'> & { readonly paths: readonly string[] },
  ): Promise<FoundManifest> {
    if (keepsEveryService(known)) return known;
    const more: FoundPath[] = [...known.paths];
    for (const path of new Set(paths))
      if (!more.some((one) => one.path === path)) more.push(await this.#look(path, String(more.length)));
    await syncDirectory(join(this.#paths.found, 'copies'));
    const manifest = { ...known, identities: { ...identities, ...known.identities }, paths: more };
    await this.#document.write(manifest);
    return manifest;
  }

  /** The kept bytes of a path, undefined where there were none. */
  async content(manifest: FoundManifest, path: string | null): Promise<Buffer | undefined> {
    const found = manifest.paths.find((one) => one.path === path);
    const file = found?.kind === 'file' || found?.kind === 'link' ? found.file : null;
    return file === null ? undefined : await readFile(join(this.#paths.found, 'copies', file.copy));
  }

  /** Puts back what was found at a path: content, mode, owner and time. */
  async restore(manifest: FoundManifest, found: FoundPath): Promise<void> {
    const path = this.#paths.at(found.path);
    switch (found.kind) {
      case 'absent':
        await rm(path, { force: true });
        return;
      case 'directory':
        return;
      case 'link':
        await replaceLink(path, found.target);
        return;
      case 'file': {
        const content = await this.content(manifest, found.path);
        if (content === undefined) throw missingCopy(found.path);
        const { mode, uid, gid, modifiedMs } = found.file;
        await writeFileAtomic(path, content, { mode, uid, gid });
        await utimes(path, modifiedMs / 1000, modifiedMs / 1000);
        return;
      }
    }
  }

  async #look(path: string, copy: string): Promise<FoundPath> {
    const at = this.#paths.at(path);
    const status = await lstat(at).catch(ignoreMissing);
    if (status === undefined) return { kind: 'absent', path };
    if (status.isDirectory()) return { kind: 'directory', path };
    if (status.isSymbolicLink()) {
      const file = await this.#copy(at, copy).catch(ignoreMissing);
      return { kind: 'link', path, target: await readlink(at), file: file ?? null };
    }
    if (!status.isFile()) {
      throw new TrustError('adoption.not_a_file', 'conflict', `cannot adopt ${path}: it is no regular file`, {
        hint: `move ${path} out of the way, then try again`,
      });
    }
    const file = await this.#copy(at, copy);
    return { kind: 'file', path, file };
  }

  async #copy(at: string, copy: string): Promise<Static<typeof Kept>> {
    const { stat } = await import('node:fs/promises');
    const status = await stat(at);
    if (!status.isFile() || status.size > FILE_LIMIT) {
      throw new TrustError(
        'adoption.not_a_file',
        'conflict',
        `cannot adopt ${at}: it is no regular file of at most ${FILE_LIMIT} bytes`,
        { hint: `move ${at} out of the way, then try again` },
      );
    }
    const content = await readFile(at);
    await writeFileAtomic(join(this.#paths.found, 'copies', copy), content, { mode: 0o600 });
    return {
      copy,
      sha256: createHash('sha256').update(content).digest('hex'),
      mode: status.mode & 0o7777,
      uid: status.uid,
      gid: status.gid,
      modifiedMs: status.mtimeMs,
    };
  }
}

/** Every path that virt-trust may come to stand at on a host, and those of the identities that it found. */
export function pathsToKeep(what: Omit<FoundManifest, 'paths' | 'sockets'>): string[] {
  const layouts = Object.values(LAYOUTS);
  const identities: (string | null)[] = Object.values(what.identities).flatMap((one) => Object.values(one));
  return [
    ...layouts.flatMap(({ directories }) => directories),
    ...layouts.flatMap(({ wholeDirectory }) => wholeDirectory?.path ?? []),
    ...layouts.flatMap(({ links }) => links.map(({ path }) => path)),
    ...identities.filter((path) => path !== null),
    what.rpcConfiguration,
    what.qemuConfiguration,
  ];
}

/** Whether what each service had is kept. */
export function keepsEveryService({ identities }: FoundManifest): boolean {
  return SERVICES.every((service) => identities[service] !== undefined);
}

const NOTHING: FoundIdentity = {
  ca: null,
  crl: null,
  certificate: null,
  key: null,
  clientCertificate: null,
  clientKey: null,
};

/** The files that a service used before virt-trust came. */
export function foundIdentity({ identities }: FoundManifest, service: Service): FoundIdentity {
  return identities[service] ?? NOTHING;
}

/** What was found at a path; throws `internal` where it was not looked at. */
export function foundAt(manifest: FoundManifest, path: string): FoundPath {
  const found = manifest.paths.find((one) => one.path === path);
  if (found !== undefined) return found;
  throw new TrustError('adoption.not_kept', 'internal', `cannot touch ${path}: what was there was not kept`);
}

function missingCopy(path: string): TrustError {
  return new TrustError('adoption.copy_missing', 'failed', `cannot put ${path} back: its copy is gone`);
}

function ignoreMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT') return undefined;
  throw error;
}
