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
const PATIENCE = 180_000;
/** Found before the host's own: it takes a part of what is copied, and the rest never, so that the copy is not over before it is cut. */
const UNPACKER = '/usr/local/bin/zstd';
const HALF = `#!/bin/sh
head -c 100000
while test -e ${UNPACKER}; do sleep 0.1; done
exit 1
`;

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
    await host.writeFile(UNPACKER, HALF, 0o755);
    const work = toldBy(fleet.add(host.name));
    try {
      await until('see part of the program', PATIENCE, async () =>
        (await host.exec(['sh', '-c', PARTIAL])).code === 0 ? true : undefined,
      );
      await cut();
    } finally {
      await host.run(['rm', UNPACKER]);
    }
    return await work;
  }

  it('1. says that the connection was cut while the program was copied, which never is in its place in part', async () => {
    try {
      const told = await Promise.all([
        addAndCut(a, () => a.run(['pkill', '--signal', 'KILL', '--full', 'sshd: root@notty'])),
        addAndCut(b, () => b.cutCable()),
      ]);
      for (const [index, host] of [a, b].entries()) {
        const { code, message, hint } = told[index] ?? assert.fail();
        assert.equal(code, 'ssh.interrupted', JSON.stringify(told));
        assert.match(message, new RegExp(`${host.name}.*while copying the program`));
        assert.match(hint, /same command again/);
        assert.equal((await host.exec(['test', '-e', `${PROGRAM}/virt-trust`])).code, 1);
      }
    } finally {
      await b.plugCable();
    }
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
    const away = await until('see that it is away', PATIENCE, async () => {
      const host = await fleet.show('host-a');
      return host.channel === 'down' ? host : undefined;
    });
    assert.match(away.reason ?? '', /agent|channel/);
    await a.boot();
    await answers('host-a');
    assert.deepEqual(await servedSets(a), before);
    // As soon as it has looked at itself after its boot.
    await until('see it secured', PATIENCE, async () =>
      (await fleet.show('host-a')).state === 'secured' ? true : undefined,
    );
  });

  it('4. goes on with a host that was being added when the manager was killed, wherever that was', async () => {
    await fleet.remove('host-b');
    await until('see the program go', PATIENCE, async () =>
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
        until(what, PATIENCE, async () => {
          const job = await client().call(getJob, { params: { id } });
          assert.notEqual(job.state, 'failed', JSON.stringify(job.error));
          return is(job) ? job : undefined;
        });
      for (const name of [
        'Copy the program',
        'Install the agent and exchange public keys',
        'Issue, install and prove the certificates',
      ]) {
        // It may be past it by the time it is seen: then it is killed there.
        await jobWhen(`see it ${name}`, (job) => job.steps.some((step) => step.name === name));
        await manager.end('SIGKILL');
        manager = await ManagerProcess.start(program, state);
      }
      await jobWhen('see host-b added', (job) => job.state === 'done');
      const { shown, onDisk } = await servedSets(b);
      assert.ok(shown !== undefined && shown === onDisk.libvirt);
    } finally {
      await manager.end('SIGTERM');
      await fleet.startManager();
    }
    assert.equal((await fleet.show('host-b')).state, 'secured');
  });

  const collect = (name: string) => fleet.client.call(collectHost, { params: { name } });

  /** Waits until the manager reaches the agent by its own dialling. */
  async function answers(name: string): Promise<void> {
    await until(`reach the agent of ${name}`, PATIENCE, async () =>
      collect(name).then(
        (host) => (host.channel === 'up' ? true : undefined),
        () => undefined,
      ),
    );
  }
});
