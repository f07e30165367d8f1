import { type ChildProcess, spawn } from 'node:child_process';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { availableParallelism, freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeError } from '@virt-trust/base/error.ts';
import { canBootLab, type LabCapability } from '@virt-trust/lab/capability.ts';
import { ensureRoot } from '@virt-trust/lab/root.ts';
import { beginTestRun, sweepTestRuns } from '@virt-trust/lab/test-run.ts';
import { buildProgram } from './build.ts';
import { layerViolations } from './layers.ts';
import { openApiDrift } from './openapi.ts';
import { longestFirst } from './order.ts';
import { preparePackages } from './packages.ts';
import { endStragglers } from './stragglers.ts';
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

const root = join(import.meta.dirname, '..');
const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
/** The tests that did not run, each with its reason. */
const leftOut: string[] = [];
/** The tests that failed: said once more at the end, where whoever reads the last lines alone sees each. */
const failures: string[] = [];

/** By its mark in the environment every process is found that a test leaves. */
const testRun = await beginTestRun();
/** Modules that were compiled once are not compiled again by each of the many processes of a run. */
const compiled = mkdtempSync(join(tmpdir(), 'vt-compiled-'));
process.env['NODE_COMPILE_CACHE'] = compiled;
/** A story with three hosts, their agents and VMs; all but the largest take half of it. */
const STORY_BYTES = 2 * 2 ** 30;
const STORIES_PER_CORE = 2;

/** How long what was told to end may take to say what it was at. */
const GRACE_MS = 3000;

const children = new Set<ChildProcess>();
const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
  process.on(signal, () => {
    interruption.abort(new Error(`ended by ${signal}`));
    console.log(`\n${signal}: ending`);
    for (const child of children) child.kill('SIGTERM');
    // Not every tool ends what it started itself, and whose output is read.
    setTimeout(() => endStragglers(testRun), GRACE_MS).unref();
  });

const everything = values.checks !== true && values.unit !== true && values.e2e !== true;

function heading(text: string): void {
  console.log(`\n── ${text}`);
}

interface Ended {
  readonly code: number;
  readonly output: string;
}

/** Runs a command to its end; its output is shown as it comes, or kept for later. */
function run(command: string, args: readonly string[], show: 'now' | 'later'): Promise<Ended> {
  return new Promise((resolve) => {
    const stdio = show === 'now' ? 'inherit' : 'pipe';
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', stdio, stdio] });
    let output = '';
    for (const stream of [child.stdout, child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    children.add(child);
    const end = (code: number) => {
      children.delete(child);
      resolve({ code, output });
    };
    child.once('error', (error) => {
      output += describeError(error);
      end(127);
    });
    child.once('close', (code) => end(code ?? 1));
  });
}

interface Verdict {
  readonly findings: readonly string[];
  readonly output?: string;
}

/** A check that has begun, and how it is told once it is its turn. */
function check(name: string, verdict: () => Promise<Verdict> | Verdict): () => Promise<void> {
  const started = performance.now();
  const ended = Promise.resolve()
    .then(verdict)
    .catch((error): Verdict => ({ findings: [describeError(error)] }))
    .then((result) => ({ ...result, seconds: (performance.now() - started) / 1000 }));
  return async () => {
    const { findings, output = '', seconds } = await ended;
    tally[findings.length === 0 ? 'passed' : 'failed']++;
    process.stdout.write(output);
    console.log(`${findings.length === 0 ? '✔' : '✖'} ${name} (${seconds.toFixed(1)} s)`);
    for (const finding of findings) console.log(`    ${finding}`);
  };
}

/** A tool of node_modules, run on the pinned Node. */
function tool(bin: string, ...args: string[]): () => Promise<Verdict> {
  return async () => {
    const { code, output } = await run(process.execPath, [join(root, 'node_modules', bin), ...args], 'later');
    if (code === 0) return { findings: [], output };
    return { findings: [`${bin} ${args.join(' ')} failed with exit code ${code}, see above`], output };
  };
}

async function runChecks(): Promise<void> {
  interruption.signal.throwIfAborted();
  heading('Checks');
  const colours = process.stdout.isTTY === true ? [] : ['--colors=off'];
  const knip = (...args: string[]) =>
    tool('knip/bin/knip.js', '-c', 'tools/knip.ts', '--no-progress', '--no-config-hints', ...args);
  const begun = [
    check('types (tsc, strict)', tool('typescript/bin/tsc', '-p', '.')),
    check(
      'lint and format (biome)',
      tool('@biomejs/biome/bin/biome', 'ci', '--error-on-warnings', ...colours, '.'),
    ),
    check('no dead export or dependency (knip)', knip()),
    check('nothing that tests alone use (knip)', knip('--production', '--include', 'files,exports,types')),
    check('imports go downwards only', () => ({ findings: layerViolations(root) })),
    check('the OpenAPI documents say what the code does', async () => ({
      findings: await openApiDrift(root),
    })),
  ];
  for (const tell of begun) await tell();
}

async function runTests(files: readonly string[], atOnce: number): Promise<void> {
  interruption.signal.throwIfAborted();
  const directory = mkdtempSync(join(tmpdir(), 'vt-test-'));
  const report = join(directory, 'report.tap');
  const words = ['--at-once', String(atOnce), '--report', report, ...files];
  try {
    const { code } = await run(process.execPath, [join(root, 'tools/run-tests.ts'), ...words], 'now');
    count(parseTapReport(readFileSync(report, 'utf8')), code);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

function count({ passed, failed, skipped, ...named }: TapReport, code: number): void {
  tally.passed += passed;
  tally.skipped += skipped;
  // A runner that fails without a test that failed did not run its tests.
  tally.failed += code !== 0 && failed === 0 ? 1 : failed;
  leftOut.push(...named.leftOut);
  failures.push(...named.failures);
}

async function runUnit(): Promise<void> {
  heading('Tests beside the code');
  const patterns = ['packages/*/src/**/*.test.ts', 'lab/src/**/*.test.ts', 'bench/src/**/*.test.ts'];
  // One more than there are cores: some wait, for a program or for the disk.
  await runTests(
    longestFirst(globSync([...patterns, 'tools/*.test.ts'], { cwd: root })),
    availableParallelism() + 1,
  );
}

/** What stories need besides their labs: what can boot one, the program and the hosts' Debian. */
async function prepareStories(): Promise<LabCapability> {
  const capability = await canBootLab();
  if (capability.kind === 'no') return capability;
  await sweepTestRuns();
  await Promise.all([buildProgram((line) => console.log(line)), ensureRoot({ signal: interruption.signal })]);
  return capability;
}

async function runStories(ready: Promise<LabCapability>): Promise<void> {
  interruption.signal.throwIfAborted();
  heading('Stories on the booted lab');
  const stories = longestFirst(globSync('lab/e2e/*.e2e.ts', { cwd: root }));
  try {
    const capability = await ready;
    if (capability.kind === 'no') {
      console.log(`Left out, because ${capability.why}.`);
      leftOut.push(...stories.map((story) => `${story} (${capability.why})`));
      tally.skipped += stories.length;
      return;
    }
  } catch (error) {
    tally.failed++;
    console.log(`✖ what stories need: ${describeError(error)}`);
    return;
  }
  // Each story has a lab and networks of its own, and waits for the clock more than for the cores.
  const forMemory = Math.floor(freemem() / STORY_BYTES);
  await runTests(stories, Math.max(1, Math.min(STORIES_PER_CORE * availableParallelism(), forMemory)));
}

/** Takes away what tests left that were cut off; those that ended by themselves leave nothing. */
async function cleanUp(): Promise<void> {
  for (const command of endStragglers(testRun))
    console.log(`ended what a test left running: ${command.slice(0, 200)}`);
  for (const lab of await sweepTestRuns(testRun)) console.log(`took away lab ${lab}, which a test left`);
  // Who was ended just now may still be writing there.
  rmSync(compiled, { recursive: true, force: true, maxRetries: 10 });
}

async function runAll(): Promise<void> {
  await preparePackages((line) => console.log(line));
  if (positionals.length > 0) return runTests(positionals, 1);
  const ready = everything || values.e2e === true ? prepareStories() : undefined;
  // Told of when it is the stories' turn.
  ready?.catch(() => {});
  try {
    if (everything || values.checks === true) await runChecks();
    if (everything || values.unit === true) await runUnit();
    if (ready !== undefined) await runStories(ready);
  } finally {
    await ready?.catch(() => {});
  }
}

for (const work of [runAll, cleanUp]) {
  await work().catch((error) => {
    tally.failed++;
    console.log(`✖ ${describeError(error)}`);
  });
}
if (failures.length > 0) heading('Failed');
for (const failure of failures) console.log(`✖ ${failure}`);
if (leftOut.length > 0) heading('Left out');
for (const line of leftOut) console.log(line);
console.log(`\n${tally.passed} passed, ${tally.failed} failed, ${tally.skipped} skipped`);
process.exitCode = tally.failed === 0 && tally.passed > 0 ? 0 : 1;
