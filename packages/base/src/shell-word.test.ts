import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { shellWord } from './shell-word.ts';

test('a shell reads each text as the one word that it is', () => {
  for (const text of [
    'web',
    'my vm',
    '$(halt)',
    '`halt`',
    "a';halt;'",
    '-rf',
    '~',
    'a\\b',
    '*',
    'ü',
    '',
    '#x',
    'a&b',
  ])
    assert.equal(execFileSync('/bin/sh', ['-c', `printf %s ${shellWord(text)}`], { encoding: 'utf8' }), text);
});

test('an ordinary name stays as it is', () => {
  for (const text of ['web-1', 'db.example', '/var/lib/x', 'a_b@c']) assert.equal(shellWord(text), text);
});
