import { createWriteStream } from 'node:fs';
import { PassThrough } from 'node:stream';
import { run } from 'node:test';
import { spec, tap } from 'node:test/reporters';
import { parseArgs } from 'node:util';

/**
 * Node's test runner for files that begin in the order in which they are given (`node --test` sorts them) and are told
 * of as they end (`node --test` waits with each for those before): --at-once N --report FILE FILES... Ends with 1 where
 * a test failed. A test that hangs fails and is named; a file whose process does not end after its tests is ended, and
 * fails: --test-limit and --file-limit SECONDS.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    'at-once': { type: 'string' },
    report: { type: 'string' },
    'test-limit': { type: 'string', default: '1200' },
    'file-limit': { type: 'string', default: '2400' },
  },
});
const testLimit = Number(values['test-limit']) * 1000;
const fileLimit = Number(values['file-limit']) * 1000;

type TestEvent = { readonly type: string; readonly data: Record<string, unknown> };

const began = performance.now();
const events = new PassThrough({ objectMode: true });
events.compose(new spec()).pipe(process.stdout);
events.compose(tap).pipe(createWriteStream(values.report ?? '/dev/null'));

/** The runner's own figures, by which it ends its report. */
const figures = { tests: 0, suites: 0, pass: 0, fail: 0, cancelled: 0, skipped: 0, todo: 0 };

async function runFile(file: string): Promise<void> {
  const told: TestEvent[] = [];
  const limit = new AbortController();
  const ending = setTimeout(
    () => limit.abort(new Error(`its process did not end within ${fileLimit / 1000} s`)),
    fileLimit,
  );
  const tests = run({ files: [file], timeout: testLimit, signal: limit.signal });
  for await (const event of tests as AsyncIterable<TestEvent>) {
    const { type, data } = event;
    if (type === 'test:summary' && data['file'] === undefined) {
      add(data['counts'] as Record<string, number>);
      if (data['success'] !== true) process.exitCode = 1;
    }
    // What the runner says of one file as if it were all.
    const isOfWhole = data['nesting'] === 0 && (type === 'test:plan' || type === 'test:diagnostic');
    if (type !== 'test:summary' && !(isOfWhole && data['file'] === undefined)) told.push(event);
  }
  clearTimeout(ending);
  for (const event of told) events.write(event);
}

function add(counts: Record<string, number>): void {
  const of = (name: string) => counts[name] ?? 0;
  figures.tests += of('tests');
  figures.suites += of('suites');
  figures.pass += of('passed');
  figures.fail += of('failed');
  figures.cancelled += of('cancelled');
  figures.skipped += of('skipped');
  figures.todo += of('todo');
}

const waiting = [...positionals];
await Promise.all(
  Array.from({ length: Number(values['at-once'] ?? 1) }, async () => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) await runFile(file);
  }),
);
const last = { ...figures, duration_ms: performance.now() - began };
for (const [name, figure] of Object.entries(last))
  events.write({
    type: 'test:diagnostic',
    data: { nesting: 0, message: `${name} ${figure}`, level: 'info' },
  });
events.end();
if (figures.fail + figures.cancelled > 0 || figures.tests === 0) process.exitCode = 1;
