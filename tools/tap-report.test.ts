import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseTapReport } from './tap-report.ts';

test("the runner's report is counted, and what was left out is named with its reason", (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'virt-trust-tap-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'some.test.mjs');
  writeFileSync(
    file,
    `import { test } from 'node:test';
test('done', () => {});
test('a # and a \\\\', { skip: 'needs #1' }, () => {});
test('without a reason', { skip: true }, () => {});
test('outer', (t) => t.test('inner', { skip: 'needs root' }, () => {}));
test('later', { todo: 'not yet' }, () => {});`,
  );
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const report = execFileSync(process.execPath, ['--test', '--test-reporter=tap', file], {
    env,
    encoding: 'utf8',
  });
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
  });
});

test('a report that ends in the middle counts nothing', () => {
  assert.deepEqual(parseTapReport('TAP version 13\nok 1 - x\n'), {
    passed: 0,
    failed: 0,
    skipped: 0,
    leftOut: [],
  });
});
