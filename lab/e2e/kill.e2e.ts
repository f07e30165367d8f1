import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { provisionHost } from '@virt-trust/contract/manager/host-operations.ts';
import { SERVICES } from '@virt-trust/contract/model/service.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { qemuProcesses, startVm } from '../src/vm.ts';
import { Fleet } from './fleet.ts';
import { KillPoints } from './kill-point.ts';
import { type ServedSets, servedSets } from './served-sets.ts';
import { sightOf } from './sight.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;

describe('an agent that is killed before every step it takes', { skip }, () => {
  let fleet: Fleet;
  let host: Host;
  let points: KillPoints;
  let asFound: string;
  let settled: ServedSets;

  before(async () => {
    fleet = await Fleet.up({ lab: `fail-kill-${process.pid}`, hosts: ['host-a'] });
    host = fleet.host('host-a');
    asFound = await sightOf(host);
    await startVm(host, { name: 'guest', vncListen: '127.0.0.1' });
    points = await KillPoints.prepare(host);
  });
  after(() => fleet?.[Symbol.asyncDispose]());

  it('1. completes the first deployment, no set ever half there', async () => {
    await points.hold();
    let tlsWasOn = false;
    const steps = await points.killAtEach(fleet.add('host-a'), async (step) => {
      const { onDisk, shown } = await servedSets(host);
      if (shown === undefined) assert.ok(!tlsWasOn, `TLS is off again at ${step}`);
      else assert.equal(shown, onDisk.libvirt, `another certificate is served at ${step}`);
      tlsWasOn = shown !== undefined;
    });
    assert.deepEqual(
      ['keep-found', 'await-certificates', 'switch-vnc', 'bring-daemon', 'await-proof', 'settle'].filter(
        (name) => !steps.includes(name),
      ),
      [],
    );
    assert.equal((await fleet.show('host-a')).state, 'secured');
    settled = await servedSets(host);
    for (const service of SERVICES) assert.ok(settled.onDisk[service]);
  });

  it('2. completes a renewal, the old sets whole until each is switched', async () => {
    const before = await qemuProcesses(host);
    await points.hold();
    const job = fleet.finished(
      await fleet.client.call(provisionHost, { params: { name: 'host-a' }, body: { renew: true } }),
    );
    const switched = new Set<string>();
    let last = '';
    const steps = await points.killAtEach(job, async (step) => {
      if (last.startsWith('switch-')) switched.add(last.slice('switch-'.length));
      last = step;
      const { onDisk, shown } = await servedSets(host);
      for (const service of SERVICES)
        assert.equal(
          onDisk[service] !== settled.onDisk[service],
          switched.has(service),
          `${service} at ${step}`,
        );
      assert.ok(shown === settled.onDisk.libvirt || shown === onDisk.libvirt, `libvirtd at ${step}`);
    });
    assert.equal(switched.size, SERVICES.length, steps.join(' '));
    const now = await servedSets(host);
    assert.equal(now.shown, now.onDisk.libvirt);
    assert.deepEqual(await qemuProcesses(host), before);
    settled = now;
  });

  it('3. completes the removal, and gives everything back', async () => {
    const before = await qemuProcesses(host);
    await points.hold();
    const steps = await points.killAtEach(fleet.remove('host-a'), async (step) => {
      const { onDisk, shown } = await servedSets(host);
      if (shown !== undefined) assert.equal(shown, settled.shown, `libvirtd at ${step}`);
      // A daemon that starts anew just then must find what it needs.
      await host.run([
        'sh',
        '-c',
        'systemctl reset-failed libvirtd.service; systemctl restart libvirtd.service',
      ]);
      const again = await servedSets(host);
      assert.deepEqual([again.onDisk, again.shown], [onDisk, shown], `after a restart at ${step}`);
    });
    assert.ok(steps.includes('remove-state'), steps.join(' '));
    // The service goes after the answer was read.
    await until('see the program go', 180_000, async () =>
      (await host.exec(['test', '-e', '/usr/local/lib/virt-trust'])).code === 1 ? true : undefined,
    );
    await host.run(['rm', '-r', '/etc/systemd/system/virt-trust-agent.service.d']);
    assert.equal(await sightOf(host), asFound);
    assert.deepEqual(await qemuProcesses(host), before);
  });
});
