import { randomBytes } from 'node:crypto';
import {
  appendFile,
  chmod,
  mkdir,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { exec } from './command.ts';
import { machineOsRelease } from './os-release.ts';
import { aptDownloadSettings, debianSources } from './packages.ts';
import { CACHE_DIRECTORY } from './paths.ts';
import { lock } from './process-lock.ts';
import { ROOT_RECIPE, type RootRecipe, recipeDigest } from './root-recipe.ts';
import { until } from './until.ts';

const UNUSED_MS = 24 * 60 * 60 * 1000;

export interface RootOptions {
  readonly say?: (text: string) => void;
  readonly recipe?: RootRecipe;
  readonly signal?: AbortSignal | undefined;
}

/** How a root came to be: from the cache or built now. */
export interface EnsuredRoot {
  readonly directory: string;
  readonly kind: 'cached' | 'built';
}

/**
 * The directory of the root that the hosts share, built if the cache lacks it; a build that is killed leaves
 * nothing that is taken for a root, and of two processes one builds and the other waits. Throws `lab.root`.
 */
export async function ensureRoot(options: RootOptions = {}): Promise<EnsuredRoot> {
  const { say = () => {}, recipe = ROOT_RECIPE, signal } = options;
  const { codename } = await machineOsRelease();
  const digest = recipeDigest(recipe, codename, process.arch);
  const directory = join(CACHE_DIRECTORY, digest);
  if (await isDirectory(directory)) return fromCache(directory);
  await using _held = await lock(
    `root/${digest}`,
    () => say('another process builds the root: waiting for it'),
    signal,
  );
  if (await isDirectory(directory)) return fromCache(directory);
  await mkdir(CACHE_DIRECTORY, { recursive: true, mode: 0o755 });
  await removeUnfinished(digest);
  const unfinished = join(CACHE_DIRECTORY, `${digest}.unfinished-${randomBytes(4).toString('hex')}`);
  try {
    await bootstrap(unfinished, codename, { say, recipe, signal });
    await finish(unfinished, recipe);
    await rename(unfinished, directory);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true });
    throw error;
  }
  return { directory, kind: 'built' };
}

/** Removes cached roots that no lab's disks stand on and that nobody wanted for a day. */
export async function pruneRoots(inUse: ReadonlySet<string>): Promise<void> {
  for (const entry of await readdir(CACHE_DIRECTORY)) {
    const path = join(CACHE_DIRECTORY, entry);
    const { mtimeMs } = await stat(path);
    if (!inUse.has(path) && mtimeMs < Date.now() - UNUSED_MS)
      await rm(path, { recursive: true, force: true });
  }
}

async function fromCache(directory: string): Promise<EnsuredRoot> {
  const now = new Date();
  await utimes(directory, now, now);
  return { directory, kind: 'cached' };
}

async function bootstrap(
  directory: string,
  codename: string,
  { say, recipe, signal }: Required<RootOptions>,
): Promise<void> {
  const sources = await debianSources();
  const settings = `${directory}.conf`;
  // How to download may hold a proxy's password, which other users of the machine could read in the arguments.
  await writeFile(settings, await aptDownloadSettings(), { mode: 0o600 });
  const argv = [
    // A build dies with the process that wanted it: the root's process namespace ends with its first process.
    ...[
      'setpriv',
      '--pdeathsig',
      'KILL',
      'unshare',
      '--mount',
      '--pid',
      '--fork',
      '--kill-child=KILL',
      '--mount-proc',
    ],
    ...['mmdebstrap', '--mode=root', '--variant=essential', '--format=directory'],
    `--aptopt=${settings}`,
    '--aptopt=APT::Install-Recommends "false"',
    '--dpkgopt=force-unsafe-io',
    ...recipe.excludedPaths.map((path) => `--dpkgopt=path-exclude=${path}`),
    `--include=${recipe.packages.join(',')}`,
    ...[codename, directory, '-'],
  ];
  const onLine = (line: string) => {
    if (line.startsWith('I: ')) say(line.slice(3).replace(/\.\.\.$/, ''));
  };
  try {
    const { code, stderr } = await exec(argv, {
      input: `${sources.join('\n')}\n`,
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C.UTF-8', HOME: '/root' },
      onLine,
      signal,
    });
    if (code !== 0)
      throw rootError(
        stderr
          .split('\n')
          .filter((line) => /^(?:E|W|Err)\b/.test(line))
          .slice(-8)
          .join('; ') || stderr,
      );
  } finally {
    await rm(settings, { force: true });
  }
}

async function finish(directory: string, recipe: RootRecipe): Promise<void> {
  for (const path of recipe.removed) await rm(join(directory, path), { recursive: true, force: true });
  for (const file of recipe.files) {
    const path = join(directory, file.path);
    await mkdir(dirname(path), { recursive: true });
    if (file.kind === 'append') {
      await appendFile(path, file.text);
      continue;
    }
    await rm(path, { force: true });
    if (file.kind === 'link') await symlink(file.target, path);
    else {
      await writeFile(path, file.text);
      await chmod(path, file.mode);
    }
  }
}

async function removeUnfinished(digest: string): Promise<void> {
  for (const name of await readdir(CACHE_DIRECTORY)) {
    // Programs of a build that was killed end with it, but not all at once: until then they go on writing.
    if (name.startsWith(`${digest}.unfinished-`))
      await until(`remove ${name}`, 60_000, () => isRemoved(join(CACHE_DIRECTORY, name)));
  }
}

/** True once nothing is there; undefined where somebody put something into it meanwhile. */
async function isRemoved(path: string): Promise<true | undefined> {
  return rm(path, { recursive: true, force: true }).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOTEMPTY') return undefined;
      throw error;
    },
  );
}

async function isDirectory(path: string): Promise<boolean> {
  return stat(path).then(
    (found) => found.isDirectory(),
    () => false,
  );
}

function rootError(reason: string): TrustError {
  return new TrustError(
    'lab.root',
    'failed',
    `cannot build the root of the lab's hosts: ${describeError(reason)}`,
    {
      hint: 'see whether `apt-get update` works on this machine and that /var/cache has 1 GB free',
    },
  );
}
