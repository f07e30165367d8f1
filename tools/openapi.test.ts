import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import { VERSION } from '@virt-trust/base/version.ts';
import { startManager } from '@virt-trust/manager/manager.ts';
import { openApiDrift, writeOpenApi } from './openapi.ts';

const root = join(import.meta.dirname, '..');

function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'virt-trust-openapi-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

test('the committed documents are what the code makes', () => {
  assert.deepEqual(openApiDrift(root), []);
});

test('the manager serves the committed document', async (t) => {
  const manager = await startManager({
    stateDirectory: temporaryDirectory(t),
    version: VERSION,
    listen: { address: '127.0.0.1', port: 0 },
    log: silentLog,
  });
  t.after(() => manager.close());
  const served = await fetch(`${manager.url}/api/v1/openapi.json`);
  const committed: unknown = JSON.parse(readFileSync(join(root, 'docs/openapi/manager.json'), 'utf8'));
  assert.deepEqual(await served.json(), committed);
});

test('a document that is missing or was changed by hand is found', (t) => {
  const checkout = temporaryDirectory(t);
  assert.equal(openApiDrift(checkout).length, 2);
  writeOpenApi(checkout);
  assert.deepEqual(openApiDrift(checkout), []);
  const file = join(checkout, 'docs/openapi/agent.json');
  writeFileSync(file, readFileSync(file, 'utf8').replace('"summary": "', '"summary": "Not: '));
  assert.deepEqual(openApiDrift(checkout), [
    'docs/openapi/agent.json is out of step with the code: write it with ./virt-trust openapi',
  ]);
});
