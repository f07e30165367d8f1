import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { parseTapReport } from './tap-report.ts';

/** What Node's runner says of a test file. */
function reportOf(t: TestContext, text: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'virt-trust-tap-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'some.test.mjs');
  writeFileSync(file, text);
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const words = ['--test', '--test-reporter=tap', file];
  return spawnSync(process.execPath, words, { env, encoding: 'utf8' }).stdout;
}

test("the runner's report is counted, and what was left out is named with its reason", (t) => {
  const report = reportOf(
    t,
    `import { test } from 'node:test';
test('done', () => {});
test('a # and a \\\\', { skip: 'needs #1' }, () => {});
test('without a reason', { skip: true }, () => {});
test('outer', (t) => t.test('inner', { skip: 'needs root' }, () => {}));
test('later', { todo: 'not yet' }, () => {});`,
  );
  assert.deepEqual(parseTapReport(report), {
    passed: 2,
    failed: 0,
    skipped: 4,
    leftOut: [
      'a # and a \\ (needs #1)',
      'without a reason (no reason is given)',
      'inner (needs root)',
      'later (not yet)',
    ],
    failures: [],
  });
});

test('what failed is named with its place and how its error begins, suites that fail with it are not', (t) => {
  const report = reportOf(
    t,
    `import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
describe('outer', () => {
  it('a # that differs', () => assert.equal(1, 2, 'they are\\nnot the same'));
  it('in a word', () => { throw new Error("it's broken"); });
  it('late', { todo: 'not yet' }, () => { throw new Error('known'); });
  it('done', () => {});
});`,
  );
  const failures = parseTapReport(report).failures.map((failure) => failure.replace(/\(.*\/some/, '(some'));
  assert.deepEqual(failures, [
    'a # that differs (some.test.mjs:4:3)\n    they are\n    not the same\n    1 !== 2',
    "in a word (some.test.mjs:5:3)\n    it's broken",
  ]);
});

test('a report that ends in the middle counts nothing', () => {
  assert.deepEqual(parseTapReport('TAP version 13\nok 1 - x\n'), {
    passed: 0,
    failed: 0,
    skipped: 0,
    leftOut: [],
    failures: [],
  });
});
