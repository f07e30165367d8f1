import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { canBootLab } from '../src/capability.ts';
import { exec } from '../src/command.ts';
import { sweep } from '../src/lab.ts';
import { readRecord } from '../src/record.ts';
import { allTraces } from './all-traces.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const ROOT = join(import.meta.dirname, '../..');
const NAME = `t${process.pid}-start`;

/** A start under way, as in a terminal of its own: a signal reaches all of its process group, npm too. */
class Start {
  readonly #child: ChildProcess;
  readonly #ended: Promise<number>;
  output = '';

  constructor(argv: readonly string[], env: NodeJS.ProcessEnv) {
    const [command = '', ...args] = argv;
    this.#child = spawn(command, args, {
      cwd: ROOT,
      env,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr])
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
        this.#child.emit('output');
      });
    this.#ended = once(this.#child, 'close').then(([code]) => code ?? -1);
  }

  /** Ends when the output has the text; fails with the output if the start ends before. */
  async says(text: string): Promise<void> {
    let over = false;
    const end = this.#ended.then(() => {
      over = true;
    });
    while (!this.output.includes(text)) {
      if (over) assert.fail(`it ended without "${text}":\n${this.output}`);
      await Promise.race([once(this.#child, 'output'), end]);
    }
  }

  signal(name: NodeJS.Signals): void {
    try {
      process.kill(-(this.#child.pid ?? 0), name);
    } catch {
      // It is over.
    }
  }

  async exitCode(): Promise<number> {
    return this.#ended;
  }
}

/** One that nobody listens at, and that the kernel gives to nobody who asks for any (ip(7), ip_local_port_range). */
async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(20_000, 32_000);
    const server = createServer();
    const listens = once(server.listen(port, '127.0.0.1'), 'listening').then(
      () => true,
      () => false,
    );
    if (!(await listens)) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}

async function assertNothingLeft(output: string): Promise<void> {
  assert.match(output, /No process, mount, namespace or bridge is left/);
  const record = await readRecord(NAME);
  assert.ok(record);
  assert.deepEqual(await allTraces(record), []);
}

test('npm start does the main job, goes on from it, and leaves nothing', { skip }, async (t) => {
  const home = await mkdtemp(join(tmpdir(), 'vt-start-'));
  const port = String(await freePort());
  const env = { ...process.env, XDG_CONFIG_HOME: join(home, 'config'), XDG_STATE_HOME: join(home, 'state') };
  const begun: Start[] = [];
  const start = (...argv: string[]) => {
    const one = new Start([...argv, '--name', NAME, '--port', port], env);
    begun.push(one);
    return one;
  };
  const virtTrust = join(ROOT, 'virt-trust');
  const endAll = async () => {
    for (const one of begun.splice(0)) {
      one.signal('SIGKILL');
      await one.exitCode();
    }
  };
  const step = (title: string, work: () => Promise<void>) =>
    t.test(title, async () => {
      try {
        await work();
      } finally {
        await endAll();
      }
    });
  try {
    await step('1. from nothing, every step is proven', async () => {
      const first = start('npm', 'start', '--', '--exit');
      assert.equal(await first.exitCode(), 0, first.output);
      for (const host of ['host-a', 'host-b'])
        assert.match(first.output, new RegExp(`^${host} +secured +X25519MLKEM768( +proven){3} `, 'm'));
      assert.match(first.output, /✔ Migrate \(.*verifying 10\.213\./);
      // VMs go over the network for them, and consoles are on theirs.
      assert.match(first.output, /✔ Migrate \(.*from (10\.213\.\d+)\.\d+ \(eth1\) to \1\./);
      assert.match(first.output, /^ +eth2 +10\.213\.\d+\.11: vnc, spice$/m);
      assert.ok(!first.output.includes('✖') && !first.output.includes('\u001b'), first.output);
      await assertNothingLeft(first.output);
    });

    await step('2. a start that is interrupted while it boots leaves nothing', async () => {
      const booting = start(virtTrust, 'start');
      await booting.says('✔ Prepare the machine');
      booting.signal('SIGINT');
      assert.equal(await booting.exitCode(), 130, booting.output);
      await assertNothingLeft(booting.output);
    });

    await step('3. a start that is interrupted twice while it adds a host leaves nothing', async () => {
      const adding = start(virtTrust, 'start');
      await adding.says('✔ Log in over SSH');
      adding.signal('SIGINT');
      adding.signal('SIGINT');
      assert.equal(await adding.exitCode(), 130, adding.output);
      await assertNothingLeft(adding.output);
    });

    await step('4. the next start finds all in order, and what it says to try works', async () => {
      const next = start(virtTrust, 'start');
      await next.says('until Ctrl-C');
      // What was interrupted is finished first.
      const added = next.output.slice(next.output.indexOf('Add host-a over SSH'));
      assert.equal(added.match(/Copy the program .* the same is there/g)?.length, 2, next.output);
      assert.equal(added.match(/public keys .* nothing to change/g)?.length, 2, next.output);
      const commands = next.output.split('Try next')[1]?.match(/\.\/virt-trust .*/g) ?? [];
      assert.equal(commands.length, 10);
      for (const command of commands) {
        const { code, stderr } = await exec(['sh', '-c', `cd "$1" && ${command}`, 'sh', ROOT], {
          env: { ...(env as Record<string, string>) },
        });
        assert.equal(code, 0, `${command}: ${stderr}`);
      }
      next.signal('SIGINT');
      assert.equal(await next.exitCode(), 0, next.output);
      await assertNothingLeft(next.output);
    });

    await step('5. what a start leaves that is killed, the next one sweeps away', async () => {
      const killed = start(virtTrust, 'start');
      await killed.says('✔ Start VM');
      killed.signal('SIGKILL');
      await killed.exitCode();
      const record = await readRecord(NAME);
      assert.ok(record);
      assert.notDeepEqual(await allTraces(record), []);
      const next = start(virtTrust, 'start', '--exit');
      assert.equal(await next.exitCode(), 0, next.output);
      await assertNothingLeft(next.output);
    });

    await step('6. a port that is taken is named before anything is booted', async () => {
      const taken = createServer().listen(Number(port), '127.0.0.1');
      await once(taken, 'listening');
      try {
        const refused = start(virtTrust, 'start', '--exit');
        assert.equal(await refused.exitCode(), 4, refused.output);
        assert.match(refused.output, new RegExp(`^error: .*port ${port}: .*\nhint: `));
      } finally {
        await new Promise((resolve) => taken.close(resolve));
      }
    });

    await step('7. without the lab the manager serves alone and says how to add a host', async () => {
      const alone = start(virtTrust, 'start', '--no-lab');
      await alone.says('until Ctrl-C');
      assert.match(alone.output, /virt-trust host add NAME --ssh root@HOST/);
      assert.equal((await fetch(`http://127.0.0.1:${port}/readyz`)).status, 200);
      alone.signal('SIGINT');
      assert.equal(await alone.exitCode(), 0, alone.output);
    });
  } finally {
    await endAll();
    await sweep(NAME, { deleteState: true });
    await rm(home, { recursive: true, force: true });
  }
});
