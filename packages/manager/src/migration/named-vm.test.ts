import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { testInventory } from '../hosts/fixtures.ts';
import { migratingPair as pair } from './fixture-fleet.ts';
import { withName } from './named-vm.ts';

const UUID = 'aaaaaaaa-2222-4333-8444-555555555555';
const OTHER = 'bbbbbbbb-2222-4333-8444-555555555555';
const WEB = { uuid: UUID, name: 'web', active: true };
const ORDER = { vm: UUID, from: 'host1', to: 'host2' } as const;
const signal = new AbortController().signal;

const unreachable = async () => {
  throw new TrustError('host.channel_down', 'unavailable', 'cannot reach host host3: it is away');
};

describe('the VM of an order', () => {
  it('is asked about on its source where its UUID is given, in any case, also where it is off', async (t) => {
    const { context, source } = await pair(t);
    source.listed.set('', [{ ...WEB, active: false }]);
    for (const vm of [UUID, UUID.toUpperCase()])
      assert.deepEqual(await withName({ ...ORDER, vm, parallel: 2 }, context, signal), {
        ...ORDER,
        vm: 'web',
        parallel: 2,
      });
  });

  it('is what was said where that is no UUID, and nobody is asked', async (t) => {
    const { context, source } = await pair(t);
    for (const vm of ['web', '7', UUID.slice(1), `${UUID}0`])
      assert.equal((await withName({ ...ORDER, vm }, context, signal)).vm, vm);
    assert.deepEqual(source.calls, []);
  });

  it('virshLookupDomainInternal: that UUID comes before a VM that has it for a name, which comes where there is none', async (t) => {
    const { context, source } = await pair(t);
    const named = { uuid: OTHER, name: UUID, active: true };
    source.listed.set('', [named, WEB]);
    assert.equal((await withName(ORDER, context, signal)).vm, 'web');
    source.listed.set('', [named]);
    assert.equal((await withName(ORDER, context, signal)).vm, UUID);
  });

  it('is not found at once where its source has none of that UUID or name', async (t) => {
    const { context, source } = await pair(t);
    source.listed.set('', [WEB]);
    await assert.rejects(withName({ ...ORDER, vm: OTHER }, context, signal), {
      code: 'migration.no_vm',
      category: 'not-found',
      message: `cannot migrate ${OTHER}: host host1 has no VM of that UUID or name`,
    });
    await assert.rejects(withName({ ...ORDER, from: 'nowhere' }, context, signal), { code: 'host.unknown' });
  });

  it('is asked about by the other host where its own has no agent', async (t) => {
    const fleet = await pair(t);
    await fleet.addUnmanaged('old', '192.0.2.77');
    fleet.destination.listed.set('192.0.2.77', [WEB]);
    assert.equal((await withName({ ...ORDER, from: 'old' }, fleet.context, signal)).vm, 'web');
    await fleet.addUnmanaged('older', '192.0.2.78');
    await assert.rejects(withName({ ...ORDER, from: 'old', to: 'older' }, fleet.context, signal), {
      code: 'host.unmanaged',
    });
  });

  it('is the one that ran there when the source was last seen, where that does not answer', async (t) => {
    const { context, source, add } = await pair(t);
    const running = { uuid: UUID, name: 'web', state: 'running', pid: 1, startTicks: 1, vnc: [], spice: [] };
    await add('host3', { inventory: testInventory({ runningVms: [running] }) });
    const broken = { ...context, channels: { of: unreachable } };
    assert.equal((await withName({ ...ORDER, from: 'host3' }, broken, signal)).vm, 'web');
    await assert.rejects(withName({ ...ORDER, vm: OTHER, from: 'host3' }, broken, signal), (error) =>
      isTrustError(error, 'host.channel_down'),
    );
    assert.deepEqual(source.calls, []);
  });

  it('has its name in the job, the grants and what the agent is asked for', async (t) => {
    const fleet = await pair(t);
    fleet.source.listed.set('', [WEB]);
    const order = await withName(ORDER, fleet.context, signal);
    const job = await fleet.over((await fleet.migrate(order)).id);
    assert.equal(job.subject, 'web from host1 to host2');
    assert.deepEqual(
      [...fleet.source.orders.values()].map(({ vm }) => vm),
      ['web'],
    );
  });
});
