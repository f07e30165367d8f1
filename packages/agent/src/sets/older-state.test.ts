import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { Document } from '../state/document.ts';
import { desiredFromOlder, journalFromOlder } from './older-state.ts';

/** As agents wrote it before TLS could be switched off. */
const FORMER = {
  epoch: 1,
  number: 3,
  credentials: [],
  settings: {
    plainTcp: 'keep',
    vncTls: 'keep',
    spiceTls: 'keep',
    probeSeconds: 60,
    migrateTls: 'force',
    clientDns: [],
    migrationHost: null,
    consoles: 'keep',
    announceTo: [],
  },
};

test('a desired state of a former version is read, with TLS on', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'virt-trust-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  const path = join(directory, 'desired-state.json');
  await writeFile(path, JSON.stringify(FORMER));
  const read = await new Document(path, DesiredState, '', desiredFromOlder).read();
  assert.deepEqual(read, {
    ...FORMER,
    settings: { tls: 'on', migrationWaitSeconds: 3600, ...FORMER.settings },
  });
});

test('what is there already stays, and what is no desired state is left to the check of the file', () => {
  const off = { ...FORMER, settings: { ...FORMER.settings, tls: 'off', migrationWaitSeconds: 5 } };
  assert.deepEqual(desiredFromOlder(off), off);
  for (const value of [null, 7, [], {}, { settings: null }]) assert.deepEqual(desiredFromOlder(value), value);
  assert.deepEqual(journalFromOlder({ kind: 'removing', desired: null }), {
    kind: 'removing',
    desired: null,
  });
});
