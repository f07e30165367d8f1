import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { managerClient } from '@virt-trust/cli/manager-client.ts';
import { addHost, collectHost } from '@virt-trust/contract/manager/host-operations.ts';
import { getJob } from '@virt-trust/contract/manager/job-operations.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { Fleet } from './fleet.ts';
import { ManagerProcess } from './manager-process.ts';
import { programPath } from './program.ts';
import { servedSets } from './served-sets.ts';
import { toldBy } from './told.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PROGRAM = '/usr/local/lib/virt-trust';
const PARTIAL = `ls -A ${PROGRAM} 2>/dev/null | grep '^[.]virt-trust[.]new'`;

describe('work that is interrupted, or asked for more than once', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;

  before(async () => {
    fleet = await Fleet.up({ lab: `fail-cut-${process.pid}`, hosts: ['host-a', 'host-b'] });
    [a, b] = [fleet.host('host-a'), fleet.host('host-b')];
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  /** Adds a host whose SSH connection is cut once part of the program is there. */
  async function addAndCut(host: Host, cut: () => Promise<unknown>) {
    const work = toldBy(fleet.add(host.name));
    await until('see part of the program', 120_000, async () =>
      (await host.exec(['sh', '-c', PARTIAL])).code === 0 ? true : undefined,
    );
    await cut();
    return await work;
  }

  it('1. says that the connection was cut while the program was copied, which never is in its place in part', async () => {
    const killed = addAndCut(a, () => a.run(['pkill', '--signal', 'KILL', '--full', 'sshd: root@notty']));
    const unplugged = addAndCut(b, () => b.cutCable());
    for (const [host, told] of [
      ['host-a', await killed],
      ['host-b', await unplugged],
    ] as const) {
      assert.equal(told.code, 'ssh.interrupted', JSON.stringify(told));
      assert.match(told.message, new RegExp(`${host}.*while copying the program`));
      assert.match(told.hint, /same command again/);
    }
    for (const host of [a, b])
      assert.equal((await host.exec(['test', '-e', `${PROGRAM}/virt-trust`])).code, 1);
    await b.plugCable();
  });

  it('2. completes at the second run, for several hosts at once and for one asked for twice', async () => {
    const [first, second, other] = await Promise.all([
      fleet.add('host-a'),
      fleet.add('host-a'),
      fleet.add('host-b'),
    ]);
    const [earlier, later] = [first, second].toSorted((x, y) => (x.finishedAt ?? 0) - (y.finishedAt ?? 0));
    // One waited for the other, and then found nothing to do.
    assert.ok((later?.steps[0]?.startedAt ?? 0) >= (earlier?.finishedAt ?? Number.POSITIVE_INFINITY));
    assert.equal(later?.steps.find((step) => step.name === 'Copy the program')?.detail, 'the same is there');
    assert.equal(other.state, 'done');
    for (const host of [a, b]) {
      assert.equal((await fleet.show(host.name)).state, 'secured');
      const { shown, onDisk } = await servedSets(host);
      assert.equal(shown, onDisk.libvirt);
      assert.equal((await host.exec(['sh', '-c', PARTIAL])).code, 1);
    }
  });

  it('3. comes back by itself where the agent is killed, and where the host is restarted', async () => {
    const before = await servedSets(a);
    await a.run(['systemctl', 'kill', '--signal=KILL', 'virt-trust-agent.service']);
    await answers('host-a');
    await a.poweroff();
    const away = await until('see that it is away', 60_000, async () => {
      const host = await fleet.show('host-a');
      return host.channel === 'down' ? host : undefined;
    });
    assert.match(away.reason ?? '', /agent|channel/);
    await a.boot();
    await answers('host-a');
    assert.deepEqual(await servedSets(a), before);
    // As soon as it has looked at itself after its boot.
    await until('see it secured', 60_000, async () =>
      (await fleet.show('host-a')).state === 'secured' ? true : undefined,
    );
  });

  it('4. goes on with a host that was being added when the manager was killed, wherever that was', async () => {
    await fleet.remove('host-b');
    await until('see the program go', 60_000, async () =>
      (await b.exec(['test', '-e', PROGRAM])).code === 1 ? true : undefined,
    );
    await fleet.stopManager();
    const program = await programPath();
    const state = join(fleet.stateDirectory, 'manager');
    let manager = await ManagerProcess.start(program, state);
    try {
      const client = () => managerClient({ url: manager.url, token: fleet.token });
      const { id } = await client().call(addHost, { body: await fleet.order('host-b') });
      const jobWhen = (what: string, is: (job: Job) => boolean) =>
        until(what, 60_000, async () => {
          const job = await client().call(getJob, { params: { id } });
          assert.notEqual(job.state, 'failed', JSON.stringify(job.error));
          return is(job) ? job : undefined;
        });
      for (const name of [
        'Copy the program',
        'Install the agent and exchange public keys',
        'Issue, install and prove the certificates',
      ]) {
        await jobWhen(`see it ${name}`, (job) => job.steps.at(-1)?.name === name);
        await manager.end('SIGKILL');
        manager = await ManagerProcess.start(program, state);
      }
      await jobWhen('see host-b added', (job) => job.state === 'done');
      const { shown, onDisk } = await servedSets(b);
      assert.ok(shown !== undefined && shown === onDisk.libvirt);
    } finally {
      await manager.end('SIGTERM');
    }
    await fleet.startManager();
    assert.equal((await fleet.show('host-b')).state, 'secured');
  });

  const collect = (name: string) => fleet.client.call(collectHost, { params: { name } });

  /** Waits until the manager reaches the agent by its own dialling. */
  async function answers(name: string): Promise<void> {
    await until(`reach the agent of ${name}`, 90_000, async () =>
      collect(name).then(
        (host) => (host.channel === 'up' ? true : undefined),
        () => undefined,
      ),
    );
  }
});
