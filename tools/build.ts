import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, globSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { removeLibatomic } from './libatomic.ts';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');
/** The one executable that is deployed to hosts and runs the manager (Node's single executable application). */
const program = join(dist, 'virt-trust');

/**
 * Bundles the program and builds the one executable, unless one of the same sources is there. Returns its path.
 * Two builds at once do not disturb each other: each works in a folder of its own and the last rename wins.
 */
export async function buildProgram(log: (line: string) => void = () => {}): Promise<string> {
  const inputs = digestOfInputs();
  if (stampOf() === inputs) return program;
  log('building dist/virt-trust');
  mkdirSync(dist, { recursive: true });
  const work = join(dist, `.build-${process.pid}`);
  rmSync(work, { recursive: true, force: true });
  mkdirSync(work);
  try {
    await bundle(join(work, 'main.mjs'));
    assemble(work);
    renameSync(join(work, 'virt-trust'), program);
    writeFileSync(`${program}.stamp`, `${inputs}\n`);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return program;
}

function stampOf(): string {
  try {
    readFileSync(program, { flag: 'r' }).subarray(0, 0);
    return readFileSync(`${program}.stamp`, 'utf8').trim();
  } catch {
    return '';
  }
}

function digestOfInputs(): string {
  const hash = createHash('sha256');
  const files = globSync(
    [
      'packages/*/src/**/*.ts',
      'packages/*/package.json',
      'package-lock.json',
      'tools/build.ts',
      'tools/libatomic.ts',
    ],
    { cwd: root },
  );
  for (const file of files.filter((name) => !name.endsWith('.test.ts')).sort()) {
    hash
      .update(file)
      .update('\0')
      .update(readFileSync(join(root, file)))
      .update('\0');
  }
  return hash.update(process.version).update(process.arch).digest('hex');
}

async function bundle(outfile: string): Promise<void> {
  const { build, stop } = await import('esbuild');
  await build({
    entryPoints: [join(root, 'packages/cli/src/main.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node26',
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"production"' },
    // CommonJS dependencies call require at run time; an ESM bundle has none of its own.
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire('file:///');",
    },
  });
  // Its process would live as long as this one.
  await stop();
}

function assemble(work: string): void {
  const base = join(work, 'node');
  // Debug symbols are a quarter of the size that goes to every host; binutils may be absent, then they stay.
  try {
    execFileSync('strip', ['-o', base, process.execPath], { stdio: 'ignore' });
  } catch {
    copyFileSync(process.execPath, base);
  }
  const executable = readFileSync(base);
  removeLibatomic(executable);
  writeFileSync(base, executable, { mode: 0o755 });
  const configuration = {
    main: join(work, 'main.mjs'),
    mainFormat: 'module',
    executable: base,
    output: join(work, 'virt-trust'),
    disableExperimentalSEAWarning: true,
    useCodeCache: true,
    // SECURITY: NODE_OPTIONS would let whoever sets it run code in a program that runs as root.
    execArgvExtension: 'none',
  };
  writeFileSync(join(work, 'sea.json'), JSON.stringify(configuration));
  execFileSync(process.execPath, ['--build-sea', join(work, 'sea.json')], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  console.log(await buildProgram((line) => console.error(line)));
}
