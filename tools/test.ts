import { spawn } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { canBootLab } from '@virt-trust/lab/capability.ts';
import { buildProgram } from './build.ts';
import { layerViolations } from './layers.ts';
import { openApiDrift } from './openapi.ts';
import { preparePackages } from './packages.ts';
import { parseTapReport, type TapReport } from './tap-report.ts';

const USAGE = `Usage: npm test [-- --checks | --unit | --e2e]
  --checks  types, lint, format, layers, OpenAPI, dead exports
  --unit    the tests beside the code
  --e2e     the stories on the booted lab (root, Debian)
Without an option everything runs. Further words are test files.`;

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

const root = join(import.meta.dirname, '..');
const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
/** The tests that did not run, each with its reason. */
const leftOut: string[] = [];
/** Ctrl-C reaches the children too; they clean up and this process waits for them. */
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => {});

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    checks: { type: 'boolean' },
    unit: { type: 'boolean' },
    e2e: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
});
if (values.help === true) {
  console.log(USAGE);
  process.exit(0);
}
const everything = values.checks !== true && values.unit !== true && values.e2e !== true;

function heading(text: string): void {
  console.log(`\n── ${text}`);
}

function run(command: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
    child.once('error', () => resolve(127));
    child.once('close', (code, signal) => resolve(signal === null ? (code ?? 1) : 1));
  });
}

async function check(name: string, verdict: () => Promise<string[]> | string[]): Promise<void> {
  const started = performance.now();
  const findings = await verdict();
  tally[findings.length === 0 ? 'passed' : 'failed']++;
  console.log(
    `${findings.length === 0 ? '✔' : '✖'} ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`,
  );
  for (const finding of findings) console.log(`    ${finding}`);
}

/** A tool of node_modules, run on the pinned Node. */
function tool(bin: string, ...args: string[]): () => Promise<string[]> {
  return async () => {
    const code = await run(process.execPath, [join(root, 'node_modules', bin), ...args]);
    return code === 0 ? [] : [`${bin} ${args.join(' ')} failed with exit code ${code}, see above`];
  };
}

async function runChecks(): Promise<void> {
  heading('Checks');
  const colours = process.stdout.isTTY === true ? [] : ['--colors=off'];
  await check('types (tsc, strict)', tool('typescript/bin/tsc', '-p', '.'));
  await check(
    'lint and format (biome)',
    tool('@biomejs/biome/bin/biome', 'ci', '--error-on-warnings', ...colours, '.'),
  );
  await check('imports go downwards only', () => layerViolations(root));
  await check('the OpenAPI documents say what the code does', () => openApiDrift(root));
  const knip = (...args: string[]) =>
    tool('knip/bin/knip.js', '-c', 'tools/knip.ts', '--no-progress', '--no-config-hints', ...args);
  await check('no dead export or dependency (knip)', knip());
  await check(
    'nothing that tests alone use (knip)',
    knip('--production', '--include', 'files,exports,types'),
  );
}

async function runTests(files: readonly string[], args: readonly string[]): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'vt-test-'));
  const report = join(directory, 'report.tap');
  try {
    const code = await run(process.execPath, [
      '--test',
      '--test-reporter=spec',
      '--test-reporter-destination=stdout',
      '--test-reporter=tap',
      `--test-reporter-destination=${report}`,
      ...args,
      ...files,
    ]);
    count(parseTapReport(readFileSync(report, 'utf8')), code);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function count({ passed, failed, skipped, leftOut: left }: TapReport, code: number): void {
  tally.passed += passed;
  tally.skipped += skipped;
  // A runner that fails without a test that failed did not run its tests.
  tally.failed += code !== 0 && failed === 0 ? 1 : failed;
  leftOut.push(...left);
}

async function runUnit(): Promise<void> {
  heading('Tests beside the code');
  await runTests(
    globSync(
      ['packages/*/src/**/*.test.ts', 'lab/src/**/*.test.ts', 'bench/src/**/*.test.ts', 'tools/*.test.ts'],
      { cwd: root },
    ).sort(),
    [],
  );
}

async function runStories(): Promise<void> {
  heading('Stories on the booted lab');
  const stories = globSync('lab/e2e/*.e2e.ts', { cwd: root }).sort();
  const capability = await canBootLab();
  if (capability.kind === 'no') {
    console.log(`Left out, because ${capability.why}.`);
    leftOut.push(...stories.map((story) => `${story} (${capability.why})`));
    tally.skipped += stories.length;
    return;
  }
  try {
    await buildProgram((line) => console.log(line));
  } catch (error) {
    tally.failed++;
    console.log(`✖ the program: ${error instanceof Error ? error.message : error}`);
    return;
  }
  // Each story has a lab and networks of its own, and waits for the clock more than for the cores.
  await runTests(stories, ['--test-concurrency=2']);
}

await preparePackages((line) => console.log(line));
if (positionals.length > 0) {
  await runTests(positionals, ['--test-concurrency=1']);
} else {
  if (everything || values.checks === true) await runChecks();
  if (everything || values.unit === true) await runUnit();
  if (everything || values.e2e === true) await runStories();
}
if (leftOut.length > 0) heading('Left out');
for (const line of leftOut) console.log(line);
console.log(`\n${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`);
process.exitCode = tally.failed === 0 && tally.passed > 0 ? 0 : 1;
