import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Log } from '@virt-trust/base/log.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { runHostCommand, which } from '@virt-trust/check/host/host-command.ts';
import { temporaryRoot } from '../fixtures.ts';
import { readInterfaces } from '../inventory/interfaces.ts';
import { SimulatedTimers, told } from './fixtures.ts';
import { KernelWatch } from './kernel-watch.ts';
import { HostNetworkWatch } from './network-watch.ts';
import { systemTimers } from './timers.ts';

const canMakeNamespaces = process.getuid?.() === 0 && (await which('ip')) !== undefined;
const skip = canMakeNamespaces ? false : 'needs root and ip';

/** Resolves when something has happened as often as asked. */
class Counter {
  count = 0;
  #arrived = Promise.withResolvers<void>();

  readonly tell = (): void => {
    this.count++;
    this.#arrived.resolve();
    this.#arrived = Promise.withResolvers();
  };

  async reach(count: number): Promise<void> {
    while (this.count < count) await this.#arrived.promise;
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test('a watch that ends is begun anew, later each time, and that is said once', async (t) => {
  const timers = new SimulatedTimers();
  const woken = new Counter();
  const ended = new Counter();
  const said: string[] = [];
  const waits: number[] = [];
  const log: Log = { ...silentLog, warn: (details) => said.push(JSON.stringify(details)) };
  const watch = new KernelWatch({
    wake: woken.tell,
    log,
    timers: {
      now: () => timers.now(),
      after: (milliseconds, wake) => {
        waits.push(milliseconds);
        ended.tell();
        return timers.after(milliseconds, wake);
      },
    },
    command: ['sh', '-c', 'exit 3'],
  });
  t.after(() => watch.stop());
  for (let turn = 1; turn <= 8; turn++) {
    await ended.reach(turn);
    await timers.pass(waits[turn - 1] ?? 0);
  }
  assert.deepEqual(waits.slice(0, 8), [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
  assert.deepEqual(said, ['{"reason":"exit code 3"}']);
  assert.ok(woken.count >= 8);
  assert.equal(watch.watching, false);
});

test('a program that is not there is looked for again', async (t) => {
  const timers = new SimulatedTimers();
  const ended = new Counter();
  const watch = new KernelWatch({
    wake: () => assert.fail('it woke'),
    log: silentLog,
    timers: {
      now: () => timers.now(),
      after: (milliseconds, wake) => {
        ended.tell();
        return timers.after(milliseconds, wake);
      },
    },
    command: ['virt-trust-no-such-program'],
  });
  t.after(() => watch.stop());
  await ended.reach(1);
  await timers.pass(60_000);
  await ended.reach(2);
  assert.equal(watch.watching, false);
});

test('however much the program says, it only wakes, and it ends with the watch', async (t) => {
  const path = join(await temporaryRoot(t), 'pid');
  const woken = new Counter();
  const watch = new KernelWatch({
    wake: woken.tell,
    log: silentLog,
    timers: systemTimers,
    command: ['sh', '-c', `echo $$ >${path}; exec yes`],
  });
  t.after(() => watch.stop());
  await woken.reach(200);
  const pid = Number(await readFile(path, 'utf8'));
  assert.ok(pid > 1 && isRunning(pid));
  await watch.stop();
  assert.equal(isRunning(pid), false);
});

/** A network namespace that ends with the test; what runs in it. */
async function namespace(t: TestContext): Promise<string[]> {
  const holder = spawn('unshare', ['--net', 'sh', '-c', 'echo up; exec sleep 600'], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  t.after(() => holder.kill('SIGKILL'));
  await new Promise((resolve) => holder.stdout.once('data', resolve));
  return ['nsenter', `--net=/proc/${holder.pid}/ns/net`];
}

test('netlink(7): what the kernel has is told as it changes', { skip, timeout: 300_000 }, async (t) => {
  const inside = await namespace(t);
  const [enter = '', ...where] = inside;
  const ip = (...words: string[]) => runHostCommand(enter, [...where, 'ip', ...words]);
  const events = new Counter();
  const messages: string[] = [];
  const spawned = new Counter();
  const watch = new HostNetworkWatch({
    kept: { read: async () => undefined, write: async () => {} },
    hostName: () => 'kvm1',
    read: async () => ({
      hostName: 'kvm1',
      interfaces: await readInterfaces((program, args, options) =>
        runHostCommand(enter, [...where, program, ...args], options),
      ),
    }),
    waker: (wake) =>
      new KernelWatch({
        wake: () => {
          spawned.tell();
          wake();
        },
        log: silentLog,
        timers: systemTimers,
        command: [...inside, 'ip', '-o', 'monitor', 'link', 'address'],
      }),
    timers: systemTimers,
    emit: async (_, __, message) => {
      messages.push(message);
      events.tell();
    },
    log: silentLog,
  });
  t.after(() => watch.stop());
  // Its timers keep no process alive.
  const alive = setInterval(() => {}, 1000);
  t.after(() => clearInterval(alive));
  await ip('link', 'add', 've0', 'type', 'veth', 'peer', 'name', 've1');
  await watch.start();
  await spawned.reach(1);
  await ip('link', 'set', 've1', 'up');
  await ip('link', 'set', 've0', 'up');
  await ip('address', 'add', '192.0.2.1/24', 'dev', 've0');
  await events.reach(2);
  await ip('address', 'add', '2001:db8::1/64', 'dev', 've0');
  await events.reach(3);
  assert.deepEqual(told(watch.report()).sort(), ['-lo', 've0 192.0.2.1 2001:db8::1', 've1']);
  await ip('link', 'set', 've1', 'down');
  await events.reach(4);
  await ip('link', 'delete', 've0');
  await events.reach(5);
  assert.deepEqual(messages, [
    'the host is named kvm1',
    've0 has 192.0.2.1',
    've0 has 2001:db8::1',
    've0 is down',
    've0 has no more 192.0.2.1, 2001:db8::1',
  ]);
  assert.deepEqual(told(watch.report()), ['-lo']);
});
