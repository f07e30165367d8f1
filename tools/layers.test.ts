import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { layerViolations } from './layers.ts';

function checkout(t: TestContext, files: Readonly<Record<string, string>>): string {
  const root = mkdtempSync(join(tmpdir(), 'virt-trust-layers-'));
  t.after(() => rmSync(root, { recursive: true }));
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, file)), { recursive: true });
    writeFileSync(join(root, file), text);
  }
  return root;
}

test('imports go downwards only, in this checkout', () => {
  assert.deepEqual(layerViolations(join(import.meta.dirname, '..')), []);
});

test('an import that goes upwards, sideways or around is found in each of its forms', (t) => {
  const imports: [file: string, source: string, reason: RegExp][] = [
    ['base/src/up.ts', "import { x } from '@virt-trust/pki/x.ts';", /base may not import pki/],
    ['pki/src/type.ts', "import type { X } from '@virt-trust/contract/x.ts';", /pki may not import contract/],
    ['agent/src/side.ts', "export { x } from '@virt-trust/manager/x.ts';", /agent may not import manager/],
    ['manager/src/side.ts', "await import('@virt-trust/agent/x.ts');", /manager may not import agent/],
    ['channel/src/effect.ts', "import '@virt-trust/libvirt/x.ts';", /channel may not import libvirt/],
    ['connect/src/lab.ts', "import { x } from '@virt-trust/lab/x.ts';", /connect may not import lab/],
    ['strange/src/x.ts', "import { x } from '@virt-trust/base/x.ts';", /strange may not import base/],
    ['pki/src/a/path.ts', "import { x } from '../../../base/src/x.ts';", /leaves its package by a path/],
    ['pki/src/own.ts', "import { x } from '@virt-trust/pki/x.ts';", /its own package by name/],
    ['cli/src/x.ts', "import { x } from '@virt-trust/manager/x.ts';", /only a command may start manager/],
    ['manager/src/jobs/a.ts', "import { x } from '../store/x.ts';", /jobs may not import the edge store/],
    ['manager/src/jobs/b/c.ts', "import { x } from '../../http/x.ts';", /jobs may not import the edge http/],
  ];
  const root = checkout(
    t,
    Object.fromEntries(imports.map(([file, source]) => [`packages/${file}`, `${source}\n`])),
  );
  const found = layerViolations(root);
  assert.equal(found.length, imports.length);
  for (const [file, , reason] of imports)
    assert.match(found.find((line) => line.startsWith(`packages/${file}: `)) ?? '', reason, file);
});

test('what the layers allow is not complained about', (t) => {
  const root = checkout(t, {
    'packages/pki/src/x.ts': "import { x } from '@virt-trust/base/x.ts';\nimport { y } from './y.ts';\n",
    'packages/cli/src/commands/x.ts': "await import('@virt-trust/agent/x.ts');\n",
    'packages/manager/src/compose.ts': "import { x } from './store/x.ts';\n",
    'packages/manager/src/http/x.ts': "import { x } from '../jobs/x.ts';\n",
    'packages/manager/src/jobs/x.test.ts': "import { x } from '../store/x.ts';\n",
  });
  assert.deepEqual(layerViolations(root), []);
});

test('folders of a package that import each other, directly or by a third, are found once, with the files that do', (t) => {
  const root = checkout(t, {
    'packages/agent/src/a/x.ts': "import type { Y } from '../b/y.ts';\n",
    'packages/agent/src/b/y.ts': "import { z } from '../c/z.ts';\n",
    'packages/agent/src/c/z.ts': "await import('../a/w.ts');\n",
    'packages/pki/src/x.ts': "import { y } from './der/y.ts';\n",
    'packages/pki/src/der/y.ts': "import { z } from '../z.ts';\n",
  });
  assert.deepEqual(layerViolations(root), [
    'packages/agent/src/a: folders import each other: packages/agent/src/a/x.ts imports packages/agent/src/b/y.ts, packages/agent/src/b/y.ts imports packages/agent/src/c/z.ts, packages/agent/src/c/z.ts imports packages/agent/src/a/w.ts',
    'packages/pki/src/der: folders import each other: packages/pki/src/der/y.ts imports packages/pki/src/z.ts, packages/pki/src/x.ts imports packages/pki/src/der/y.ts',
  ]);
});

test('what composes a program is above the folders that it composes, and tests use what they like', (t) => {
  const root = checkout(t, {
    'packages/cli/src/main.ts': "import { x } from './commands/x.ts';\n",
    'packages/cli/src/commands/x.ts': "import { y } from '../y.ts';\n",
    'packages/cli/src/y.test.ts': "import { x } from './commands/x.ts';\n",
  });
  assert.deepEqual(layerViolations(root), []);
});
