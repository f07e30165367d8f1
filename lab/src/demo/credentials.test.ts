import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, beforeEach, test } from 'node:test';
import { saveCredentials, savedCredentials } from '@virt-trust/cli/credentials.ts';
import { configHome, logIn } from './credentials.ts';

const before = process.env['XDG_CONFIG_HOME'];
const directory = mkdtempSync(join(tmpdir(), 'vt-credentials-'));
const URL_A = 'http://127.0.0.1:16516';

beforeEach(() => {
  process.env['XDG_CONFIG_HOME'] = mkdtempSync(join(directory, 'user-'));
});
after(() => {
  if (before === undefined) delete process.env['XDG_CONFIG_HOME'];
  else process.env['XDG_CONFIG_HOME'] = before;
  rmSync(directory, { recursive: true });
});

test('the token is saved for the command line where there is none, and over one of a demo', () => {
  for (const token of ['one', 'two']) {
    assert.deepEqual(logIn('demo', { url: URL_A, token }), []);
    assert.equal(savedCredentials()?.token, token);
  }
});

test('a token that somebody saved stays, for the same URL too: the shell is pointed at the copy', () => {
  saveCredentials({ url: URL_A, token: 'his own' });
  assert.deepEqual(logIn('demo', { url: URL_A, token: 'ours' }), [
    `export XDG_CONFIG_HOME=${configHome('demo')}`,
  ]);
  assert.equal(savedCredentials()?.token, 'his own');
});
