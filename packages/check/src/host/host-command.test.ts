import assert from 'node:assert/strict';
import { test } from 'node:test';
import { runHostCommand, which } from './host-command.ts';

test('a program gets its arguments as they are, without a shell, in the C locale and no other environment', async () => {
  const { stdout } = await runHostCommand('printf', ['%s|', '$HOME; `id`', "'"]);
  assert.equal(stdout, "$HOME; `id`|'|");
  const names = (await runHostCommand('env', [])).stdout.split('\n').map((line) => line.split('=')[0]);
  assert.deepEqual(names.filter((name) => name !== '').sort(), ['HOME', 'LANG', 'LC_ALL', 'PATH']);
});

test('standard input reaches the program, and one that does not read it is no failure', async () => {
  assert.equal((await runHostCommand('cat', [], { stdin: 'words' })).stdout, 'words');
  await runHostCommand('true', [], { stdin: 'x'.repeat(1_000_000) });
});

test('a failure names the program, its exit code and the end of what it said', async () => {
  await assert.rejects(runHostCommand('ls', ['/no such place']), (error: Error & { code?: string }) => {
    assert.equal(error.code, 'command.failed');
    assert.match(error.message, /^cannot run ls \/no such place: exit code 2: .*No such file/);
    return true;
  });
  const { code } = await runHostCommand('false', [], { acceptedCodes: [1] });
  assert.equal(code, 1);
  await assert.rejects(runHostCommand('no-such-program', []), { code: 'command.missing' });
  assert.equal(await which('no-such-program'), undefined);
  assert.match((await which('ls')) ?? '', /\/ls$/);
});

test('a program that never ends, or never stops talking, is ended with its children', async () => {
  await assert.rejects(runHostCommand('sh', ['-c', 'sleep 1000 & wait'], { timeoutMs: 50 }), {
    code: 'command.timeout',
  });
  await assert.rejects(runHostCommand('yes', [], { maxOutputBytes: 10_000 }), {
    code: 'command.too_much_output',
  });
  const reason = new Error('stop');
  await assert.rejects(runHostCommand('sleep', ['1000'], { signal: AbortSignal.abort(reason) }), reason);
  const controller = new AbortController();
  const running = runHostCommand('sleep', ['1000'], { signal: controller.signal });
  controller.abort(reason);
  await assert.rejects(running, reason);
});

test('a program runs as another user where that is asked', {
  skip: process.getuid?.() !== 0 && 'needs root',
}, async () => {
  assert.equal((await runHostCommand('id', ['-u'], { uid: 65_534, gid: 65_534 })).stdout.trim(), '65534');
  assert.equal((await runHostCommand('id', ['-G'], { uid: 65_534, gid: 65_534 })).stdout.trim(), '65534');
});
