import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { documentDrift } from './documents.ts';

test('every link and every path of code in the documents leads to something', () => {
  assert.deepEqual(documentDrift(join(import.meta.dirname, '..')), []);
});

test('a link, a path and a module that are not there are found; others are left alone', (t) => {
  const root = mkdtempSync(join(tmpdir(), 'virt-trust-documents-'));
  t.after(() => rmSync(root, { recursive: true }));
  mkdirSync(join(root, 'packages/pki/src'), { recursive: true });
  writeFileSync(join(root, 'packages/pki/src/name.ts'), '');
  writeFileSync(
    join(root, 'packages/pki/README.md'),
    `[code](src/name.ts) [part](src/name.ts#L1) [site](https://example.org/x) [here](#below) \`src/name.ts\`
\`packages/pki/src\` \`/etc/pki/CA\` \`name.ts\`
[gone](src/gone.ts) \`packages/gone/src\` \`ame.ts\` \`other/name.ts\``,
  );
  assert.deepEqual(
    documentDrift(root),
    ['src/gone.ts', 'packages/gone/src', 'ame.ts', 'other/name.ts'].map(
      (name) => `packages/pki/README.md names ${name}, which is not there`,
    ),
  );
});
