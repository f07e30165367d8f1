import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { parseTapReport } from './tap-report.ts';

const PROGRAM = join(import.meta.dirname, 'run-tests.ts');

test('files are told of as they end, and one report counts them all', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'virt-trust-run-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const write = (name: string, text: string) => {
    const path = join(directory, `${name}.test.mjs`);
    writeFileSync(path, `import { test } from 'node:test'; ${text}`);
    return path;
  };
  // The first waits until the second is over.
  const first = write(
    'first',
    `import { existsSync } from 'node:fs';
     test('first', async () => { while (!existsSync('over')) await new Promise((go) => setTimeout(go, 10)); });`,
  );
  const second = write(
    'second',
    `import { writeFileSync } from 'node:fs';
     test('second', () => {}); test('left', { skip: 'why' }, () => {});
     process.on('exit', () => writeFileSync('over', ''));`,
  );
  const broken = write('broken', "test('broken', () => { throw new Error('as it should'); });");
  const crashed = write('crashed', 'process.exit(3);');
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const hanging = write('hanging', "test('hanging', () => new Promise(() => setInterval(() => {}, 1000)));");
  const lingering = write('lingering', "setInterval(() => {}, 1000); test('lingering', () => {});");
  const run = (...wanted: string[]) => {
    const report = join(directory, 'report.tap');
    const words = [PROGRAM, '--at-once', '2', '--report', report, ...wanted];
    const { status, stdout } = spawnSync(process.execPath, words, { cwd: directory, env, encoding: 'utf8' });
    const { passed, failed, skipped } = parseTapReport(readFileSync(report, 'utf8'));
    return { status, stdout, figures: [passed, failed, skipped] };
  };
  const good = run(first, second);
  assert.deepEqual([good.status, good.figures], [0, [2, 0, 1]], good.stdout);
  const bad = run(broken, crashed, second);
  assert.deepEqual([bad.status, bad.figures], [1, [1, 2, 1]], bad.stdout);
  assert.match(bad.stdout, /failing tests:[\s\S]*as it should/);
  const limited = run('--test-limit', '1', '--file-limit', '15', hanging, lingering);
  assert.equal(limited.status, 1, limited.stdout);
  assert.match(limited.stdout, /✖ hanging [\s\S]*timed out after 1000ms/);
  assert.match(limited.stdout, /lingering\.test\.mjs[\s\S]*did not end within 15 s/);
});
