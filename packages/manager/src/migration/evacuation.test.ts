import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { migratingPair as pair } from './fixture-fleet.ts';

describe('emptying a host', () => {
  it('moves each VM, so many at once, to the hosts with the fewest', async (t) => {
    const fleet = await pair(t);
    await fleet.add('host3', { cluster: 'other' });
    await fleet.add('host4');
    fleet.source.vms = ['vm1', 'vm2', 'vm3', 'vm4'];
    let most = 0;
    fleet.source.onStart = ({ vm }) => {
      const running = [...fleet.source.statuses.values()].filter(({ phase }) => phase === 'running').length;
      most = Math.max(most, running);
      fleet.source.vms = fleet.source.vms.filter((name) => name !== vm);
      return { phase: 'done', runsOn: 'destination' };
    };
    const job = await fleet.over((await fleet.evacuate('host1', { concurrency: 2 })).id);
    assert.equal(job.error, null);
    assert.match(job.result ?? '', /^host1 is empty: /);
    const went = [...fleet.source.orders.values()].map(({ to }) => to).toSorted();
    assert.deepEqual(went, ['host2', 'host2', 'host4', 'host4']);
    assert.ok(most <= 2);
  });

  it('goes on past what fails, tries another host, and says which VM is where and why', async (t) => {
    const fleet = await pair(t);
    await fleet.add('host4');
    fleet.source.vms = ['good', 'bad'];
    fleet.source.onStart = ({ vm }) =>
      vm === 'bad'
        ? { phase: 'failed', step: 'prepare', runsOn: 'source', error: { message: 'no such CPU', hint: '' } }
        : { phase: 'done', runsOn: 'destination' };
    const job = await fleet.over((await fleet.evacuate('host1')).id);
    assert.equal(job.error?.code, 'migration.evacuation_incomplete');
    assert.match(
      job.error?.message ?? '',
      /1 of 2 VMs did not leave: bad \(.*no such CPU.*no such CPU.*\); moved: good on host\d/,
    );
    assert.equal([...fleet.source.orders.values()].filter(({ vm }) => vm === 'bad').length, 2);
  });

  it('warns of each VM that goes in the clear, with the log and the audit log', async (t) => {
    const fleet = await pair(t);
    fleet.source.vms = ['vm1', 'vm2'];
    fleet.source.onStart = () => ({ phase: 'done', runsOn: 'destination' });
    const job = await fleet.over((await fleet.evacuate('host1', { mode: ['plain'] })).id);
    assert.equal(job.error, null);
    for (const vm of ['vm1', 'vm2']) {
      const warning = new RegExp(`^${vm} crosses the network from host1 to host2 in the clear`);
      assert.equal(job.warnings.filter((one) => warning.test(one)).length, 1, job.warnings.join());
      assert.ok(fleet.logged.some((one) => warning.test(one)));
    }
    assert.equal(job.warnings.length, 2);
  });

  it('cancels all that runs when it is cancelled', async (t) => {
    const fleet = await pair(t);
    fleet.source.vms = ['vm1', 'vm2', 'vm3'];
    fleet.source.onStart = () => ({});
    const { id } = await fleet.evacuate('host1', { concurrency: 2 });
    await fleet.until(
      id,
      ({ steps }) => steps.filter(({ name }) => name.startsWith('Migrate ')).length === 2,
    );
    await fleet.jobs.cancel(id, 'token:test');
    assert.equal((await fleet.over(id)).state, 'cancelled');
    assert.ok([...fleet.source.statuses.values()].every(({ phase }) => phase === 'cancelled'));
    assert.ok([...fleet.source.orders.values()].every(({ vm }) => vm !== 'vm3'));
  });

  it('says, cancelled, which VMs moved, which are still there and why, and which are off', async (t) => {
    const fleet = await pair(t);
    fleet.source.vms = ['gone', 'late', 'under-way', 'waiting'];
    const uuid = 'aaaaaaaa-2222-4333-8444-555555555555';
    fleet.source.listed.set('', [
      { uuid, name: 'gone', active: true },
      { uuid, name: 'stopped', active: false },
    ]);
    fleet.source.onStart = ({ vm }) => (vm === 'gone' ? { phase: 'done', runsOn: 'destination' } : {});
    fleet.source.onCancel = ({ vm }) =>
      // What libvirt has handed over already is over.
      vm === 'late' ? { phase: 'done', runsOn: 'destination' } : { phase: 'cancelled', runsOn: 'source' };
    const { id } = await fleet.evacuate('host1', { concurrency: 2 });
    await fleet.until(id, ({ steps }) =>
      ['late', 'under-way'].every((vm) =>
        steps.some(({ name, detail }) => name.startsWith(`Migrate ${vm}`) && detail.startsWith('job ')),
      ),
    );
    await fleet.underWay('late', 'under-way');
    await fleet.jobs.cancel(id, 'token:test');
    const { state, error } = await fleet.over(id);
    assert.deepEqual([state, error?.code, error?.category], ['cancelled', 'job.cancelled', 'failed']);
    assert.match(
      error?.message ?? '',
      /^cannot empty host1: it was cancelled; 2 of 4 VMs did not leave: under-way \(host2: its migration was cancelled \(job [0-9a-f-]{36}\)\); waiting \(not begun\); moved: gone, late on host2; off, and stay: stopped$/,
    );
    assert.match(error?.hint ?? '', /to go on with these: virt-trust migrate --all --from host1/);
    assert.match(
      (await fleet.audited('host-evacuate')).at(-1)?.detail ?? '',
      /cancelled: .*moved: gone, late/,
    );
  });

  it('says which VMs are off and stay, also where all others left or nothing ran', async (t) => {
    const fleet = await pair(t);
    fleet.source.vms = ['web'];
    const uuid = 'aaaaaaaa-2222-4333-8444-555555555555';
    const off = Array.from({ length: 70 }, (_, index) => `off${100 + index}`);
    fleet.source.listed.set(
      '',
      off.map((name) => ({ uuid, name, active: false })),
    );
    fleet.source.onStart = () => {
      // It is defined there still, and left all the same.
      fleet.source.listed.set(
        '',
        [...off, 'web'].map((name) => ({ uuid, name, active: false })),
      );
      fleet.source.vms = [];
      return { phase: 'done', runsOn: 'destination' };
    };
    const { result, steps } = await fleet.over((await fleet.evacuate('host1')).id);
    assert.match(
      result ?? '',
      /^host1 is empty: web on host2; off, and stay: off100, .*, off163 and 6 more$/,
    );
    assert.match(steps[0]?.detail ?? '', /^1: web; off, and stay: off100, /);
    fleet.source.listed.set('', [{ uuid, name: 'web', active: false }]);
    const again = await fleet.over((await fleet.evacuate('host1')).id);
    assert.equal(again.result, 'nothing ran on host1; off, and stay: web');
  });

  it('says why where there is nowhere to go', async (t) => {
    const fleet = await pair(t);
    fleet.source.vms = ['vm1'];
    fleet.destination.up = false;
    const { error } = await fleet.over((await fleet.evacuate('host1')).id);
    assert.match(error?.message ?? '', /no other host of cluster default is secured and there/);
  });
});
