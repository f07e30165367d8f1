import assert from 'node:assert/strict';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { LONG, longestFirst } from './order.ts';

const root = join(import.meta.dirname, '..');

test('files that take long begin first, and every file is there once', () => {
  const files = globSync(['packages/*/src/**/*.test.ts', 'lab/e2e/*.e2e.ts', 'tools/*.test.ts'], {
    cwd: root,
  });
  const ordered = longestFirst(files);
  assert.deepEqual([...ordered].sort(), [...files].sort());
  assert.equal(ordered[0], 'packages/agent/src/apply/kill.test.ts');
  assert.deepEqual(longestFirst(['b', 'a', 'lab/e2e/kill.e2e.ts']), ['lab/e2e/kill.e2e.ts', 'a', 'b']);
  assert.deepEqual(
    LONG.filter((file) => !files.includes(file)),
    [],
    'renamed, or gone',
  );
});
