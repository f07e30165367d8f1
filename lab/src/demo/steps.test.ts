import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Steps } from './steps.ts';

function screenOf(isTTY: boolean) {
  const written: string[] = [];
  const screen = { isTTY, columns: 40, write: (text: string) => written.push(text) };
  let now = 0;
  const steps = new Steps(screen, () => now);
  const pass = (milliseconds: number) => {
    now += milliseconds;
  };
  return { steps, pass, text: () => written.join('') };
}

test('a step is printed once it is over, with its time and what came of it', async () => {
  const { steps, pass, text } = screenOf(false);
  const value = await steps.run('Boot', async ({ progress, conclude }) => {
    progress('half way');
    pass(1234);
    conclude('two hosts');
    return 7;
  });
  assert.equal(value, 7);
  assert.equal(text(), '✔ Boot (1.2 s) - two hosts\n');
  assert.equal(steps.taken, 1);
});

test('on a terminal the step under way is drawn within the width and taken back', async () => {
  const { steps, text } = screenOf(true);
  await steps.run('Boot', async ({ progress }) => progress('x'.repeat(200)));
  const [, ...frames] = text().split('… ');
  assert.equal(frames.length, 2);
  for (const frame of frames) {
    assert.ok(frame.includes('\r\u001b[K'));
    assert.ok((frame.split('\r')[0] ?? '').length < 40);
  }
  assert.ok(text().endsWith('\r\u001b[K✔ Boot (0.0 s)\n'));
});

test('what a step throws is thrown on, and it does not count', async () => {
  const { steps, text } = screenOf(false);
  const work = () => Promise.reject(new Error('no'));
  await assert.rejects(steps.run('Boot', work), /no/);
  assert.equal(text(), '✖ Boot (0.0 s)\n');
  assert.equal(steps.taken, 0);
});

test('a step that was asked to stop did not fail', async () => {
  const { steps, text } = screenOf(false);
  const stop = new AbortController();
  const work = async () => {
    stop.abort();
    stop.signal.throwIfAborted();
  };
  await assert.rejects(steps.run('Boot', work, stop.signal), { name: 'AbortError' });
  assert.equal(text(), '– Boot (0.0 s) - stopped\n');
});

test('steps under a heading are indented, also after one failed', async () => {
  const { steps, text } = screenOf(false);
  await assert.rejects(
    steps.under('Add host-a', async () => {
      steps.ended('✔', 'Log in', 300, 'root@host');
      throw new Error('no');
    }),
  );
  steps.line('after');
  assert.equal(text(), '\nAdd host-a\n  ✔ Log in (0.3 s) - root@host\nafter\n');
});

test('control characters of others do not reach the terminal', () => {
  const { steps, text } = screenOf(true);
  steps.underWay('Log in', 'a\u001b[2Jb');
  steps.ended('✔', 'Log in', 0, 'a\u001b[2Jb');
  assert.ok(!text().includes('\u001b[2J'));
});
