import assert from 'node:assert/strict';
import { it } from 'node:test';
import type { RunHostCommand } from './host-command.ts';
import { readProgramVersion } from './libvirt-daemons.ts';

it('a program says its version once for as long as its file stays what it is', async () => {
  const asked: string[] = [];
  const run: RunHostCommand = async (program) => {
    asked.push(program);
    return { code: 0, stdout: 'bash 5.2.15', stderr: '' };
  };
  assert.equal(await readProgramVersion(run, ['none-such', 'bash']), '5.2.15');
  assert.equal(await readProgramVersion(run, ['bash']), '5.2.15');
  assert.equal(asked.length, 1);
});

it('a program that failed to say its version is asked again', async () => {
  let asked = 0;
  const run: RunHostCommand = async () => {
    if (++asked === 1) throw new Error('it hangs');
    return { code: 0, stdout: 'bash 5.2.15', stderr: '' };
  };
  await assert.rejects(readProgramVersion(run, ['bash']), /it hangs/);
  assert.equal(await readProgramVersion(run, ['bash']), '5.2.15');
});
