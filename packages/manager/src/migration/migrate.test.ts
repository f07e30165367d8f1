import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { TrustError } from '@virt-trust/base/error.ts';
import { testCapabilities } from '@virt-trust/contract/model/fixtures.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrationProgress } from '@virt-trust/contract/model/migration-options.ts';
import { settledState } from '../hosts/fixtures.ts';
import { migratingFleet, migratingPair as pair } from './fixture-fleet.ts';

const ORDER = { vm: 'guest', from: 'host1', to: 'host2' } as const;
const noTls = { observed: settledState('none', { capabilities: testCapabilities({ libvirtTls: null }) }) };

const amount = { totalBytes: 64 * 2 ** 20, processedBytes: 32 * 2 ** 20, remainingBytes: 32 * 2 ** 20 };
/** Under way with memory alone. */
const PROGRESS: MigrationProgress = {
  ...amount,
  percent: 50,
  bytesPerSecond: 2 ** 20,
  memory: amount,
  disk: null,
  iteration: 2,
  dirtyBytesPerSecond: 0,
  estimatedSeconds: 32,
  expectedDowntimeMs: 300,
  elapsedMs: 1000,
  stage: 'pre-copy',
};

const started = (job: Job) => job.steps.some(({ name, state }) => name === 'Migrate' && state === 'running');

describe('the migration of a VM', () => {
  it('asks for leave, then starts, and leaves no leave behind', async (t) => {
    const fleet = await pair(t);
    const { source, destination } = fleet;
    source.onStart = () => {
      const [grant, back] = [...destination.grants.values(), ...source.grants.values()];
      assert.deepEqual(grant?.operations, ['create', 'status']);
      assert.deepEqual(back?.operations, ['status']);
      assert.deepEqual([grant?.peer.name, back?.peer.name], ['host1', 'host2']);
      assert.equal(grant?.vm?.xmlSha256, 'a'.repeat(64));
      return { phase: 'done', runsOn: 'destination' };
    };
    const asked = await fleet.migrate(ORDER);
    assert.equal(asked.plan?.decision.mode, 'tls');
    assert.deepEqual(asked.warnings, []);
    const job = await fleet.over(asked.id);
    assert.equal(job.error, null);
    assert.match(job.result ?? '', /guest runs on host2/);
    assert.equal(fleet.issued.length, 1);
    assert.deepEqual([source.grants.size, destination.grants.size], [0, 0]);
    assert.ok(source.calls.indexOf('PUT grants') < source.calls.indexOf('PUT migrations start'));
    // Both hosts have other VMs now.
    for (const agent of [source, destination]) assert.equal(agent.calls.at(-1), 'GET observed-state');
  });

  it('needs no certificate in mode pinned, and grants its streams and flags', async (t) => {
    const fleet = await pair(t);
    let streams: readonly string[] = [];
    fleet.source.onStart = (order) => {
      const [grant] = fleet.destination.grants.values();
      streams = grant?.operations ?? [];
      assert.deepEqual(
        [order.destination.kind, order.stream, order.tls, order.peerAgent],
        ['peer', null, null, true],
      );
      // Live, protected, ended by errors of disks, and with the connections that were asked for.
      assert.equal(grant?.flags, 1 | 32 | 256 | 4096 | 131072);
      assert.equal(grant?.streams, 5);
      const [back] = fleet.source.grants.values();
      assert.equal(back?.peer.reachedAt[0], '192.0.2.12');
      return { phase: 'done', runsOn: 'destination' };
    };
    const job = await fleet.over((await fleet.migrate({ ...ORDER, mode: ['pinned'], parallel: 4 })).id);
    assert.equal(job.error, null);
    assert.deepEqual(streams, ['create', 'status', 'rpc', 'stream']);
    assert.deepEqual(fleet.issued, []);
  });

  it('takes the definition alone of a VM that is off where migration.offline is on, and others live', async (t) => {
    const fleet = await pair(t);
    await fleet.settings.put('migration.offline', true, { scope: 'cluster', target: 'default' }, 'test');
    const uuid = 'aaaaaaaa-2222-4333-8444-555555555555';
    fleet.source.listed.set('', [
      { uuid, name: 'off', active: false },
      { uuid, name: 'guest', active: true },
    ]);
    for (const vm of ['off', 'guest', 'away']) {
      const asked = await fleet.migrate({ ...ORDER, vm });
      assert.equal(asked.plan?.options.offline, vm === 'off');
      assert.equal((await fleet.over(asked.id)).error, null);
    }
    assert.deepEqual(
      [...fleet.source.orders.values()].map(({ vm, options }) => [vm, options.offline, options.live]),
      [
        ['off', true, true],
        ['guest', false, true],
        ['away', false, true],
      ],
    );
  });

  it('warns of what goes in the clear in the answer, the log and the audit', async (t) => {
    const fleet = await pair(t);
    await fleet.addUnmanaged('old', '192.0.2.77');
    const asked = await fleet.migrate({ ...ORDER, to: 'old' });
    assert.match(asked.warnings[0] ?? '', /guest crosses the network from host1 to old in the clear/);
    const job = await fleet.over(asked.id);
    assert.equal(job.error, null);
    assert.deepEqual(job.warnings, asked.warnings);
    assert.ok(fleet.logged.some((line) => line.includes('in the clear')));
    const [entry, ...others] = await fleet.audited('migration.plain');
    assert.deepEqual([entry?.outcome, others.length], ['intent', 0]);
    const [order] = fleet.source.orders.values();
    assert.deepEqual(order?.destination, { kind: 'tcp', address: '192.0.2.77', port: 16509 });
    assert.equal(order?.peerAgent, false);
    assert.equal(fleet.source.calls.includes('PUT grants'), false);
  });

  it('has the destination conduct where the source has no agent', async (t) => {
    const fleet = await pair(t);
    await fleet.addUnmanaged('old', '192.0.2.77');
    const job = await fleet.over((await fleet.migrate({ ...ORDER, from: 'old' })).id);
    assert.equal(job.error, null);
    const [order] = fleet.destination.orders.values();
    assert.deepEqual(order?.source, { kind: 'tcp', address: '192.0.2.77', port: 16509 });
    assert.deepEqual([order?.destination, order?.stream?.address], [{ kind: 'local' }, '192.0.2.12']);
  });

  it('is refused at once, with every reason, where no mode is feasible', async (t) => {
    const fleet = await pair(t);
    await fleet.add('host3', noTls);
    await assert.rejects(fleet.migrate({ ...ORDER, to: 'host3', mode: ['tls'] }), {
      code: 'migration.refused',
      category: 'conflict',
      message:
        /cannot migrate guest from host1 to host3: no mode is feasible: tls: .*host3 does not listen with TLS/,
    });
    await assert.rejects(fleet.migrate({ ...ORDER, to: 'host1' }), { code: 'migration.same_host' });
    await assert.rejects(fleet.migrate({ ...ORDER, to: 'nowhere' }), { code: 'host.unknown' });
    await assert.rejects(fleet.migrate({ ...ORDER, postCopy: true, parallel: 2 }), {
      code: 'migration.options',
    });
    assert.deepEqual(fleet.source.calls, []);
  });

  it('SECURITY: refuses a host that was revoked, in every mode', async (t) => {
    const fleet = await pair(t);
    await fleet.add('host3', { revoked: { at: fleet.clock.now(), reason: 'keyCompromise', comment: '' } });
    for (const mode of ['tls', 'pinned', 'plain'] as const)
      await assert.rejects(fleet.migrate({ ...ORDER, to: 'host3', mode: [mode] }), {
        code: 'migration.host_revoked',
        category: 'denied',
      });
  });

  it('stops at what the preflight finds, unless it is forced, and never forces what is unsafe', async (t) => {
    const fleet = await pair(t);
    const finding = {
      code: 'port.taken',
      severity: 'error',
      host: 'host2',
      what: 'no port is free',
      fix: 'free one',
    } as const;
    fleet.destination.findings = [finding];
    const job = await fleet.over((await fleet.migrate(ORDER)).id);
    assert.equal(job.error?.code, 'migration.preflight');
    assert.match(job.error?.message ?? '', /no port is free/);
    assert.equal(job.error?.hint, 'free one');
    assert.equal(job.plan?.ready, false);
    assert.equal(fleet.source.orders.size, 0);
    const forced = await fleet.over((await fleet.migrate({ ...ORDER, force: true })).id);
    assert.equal(forced.error, null);
    assert.equal((await fleet.audited('migration.forced')).length, 1);
    fleet.destination.findings = [{ ...finding, severity: 'unsafe' }];
    const unsafe = await fleet.over((await fleet.migrate({ ...ORDER, force: true })).id);
    assert.equal(unsafe.error?.code, 'migration.preflight');
  });

  it('says by its category whether to try again, whether the VM is there, or that something is to be mended', async (t) => {
    const fleet = await pair(t);
    const found = (code: string, host: string) =>
      ({ code, severity: 'error', host, what: `${code} of ${host}`, fix: 'mend it' }) as const;
    const away = found('agent.unreachable', 'host2');
    const missing = found('vm.unknown', 'host1');
    const cases = [
      [[away], 'unavailable'],
      // What follows from it.
      [[away, found('port.filtered', 'host2'), found('network.unreachable', 'host2')], 'unavailable'],
      [[away, found('port.filtered', 'host1')], 'conflict'],
      [[found('port.closed', 'host2')], 'conflict'],
      [[away, found('disk.missing', 'host2')], 'conflict'],
      [[missing], 'not-found'],
      [[missing, away], 'conflict'],
    ] as const;
    for (const [findings, category] of cases) {
      fleet.source.findings = [...findings, { ...found('version.older', 'host2'), severity: 'warning' }];
      const { error } = await fleet.over((await fleet.migrate(ORDER)).id);
      assert.deepEqual([error?.code, error?.category], ['migration.preflight', category]);
    }
  });

  it('SECURITY: says why the destination cut the source off, in the words of the destination', async (t) => {
    const fleet = await pair(t);
    const { source, destination } = fleet;
    const failed = { phase: 'failed', step: 'perform', runsOn: 'source' } as const;
    const error = { message: 'it closed the connection', hint: 'look at the source' };
    const why = 'host1 was cut off while guest came from it: it calls DOMAIN_DESTROY';
    const tell = (id: string, sequence: number, message: string) =>
      destination.events.push({
        sequence,
        at: fleet.clock.now(),
        kind: 'migration.cut_off',
        subject: id,
        message,
      });
    source.onStart = () => ({ ...failed, error });
    // Of another migration; and said by the source, which is nobody to say it.
    tell('another', 3000, 'host1 was cut off before');
    source.onDeleteGrant = (id) =>
      void source.events.push({
        sequence: 1,
        at: fleet.clock.now(),
        kind: 'migration.cut_off',
        subject: id,
        message: 'host2 is wicked',
      });
    const plain = await fleet.over((await fleet.migrate({ ...ORDER, mode: ['pinned'] })).id);
    assert.match(plain.error?.message ?? '', /in phase perform: it closed the connection; guest is on host1/);
    assert.equal(plain.error?.hint, 'look at the source');
    // Told at the latest when the grant goes.
    destination.onDeleteGrant = (id) => void tell(id, 3001, why);
    const tls = await fleet.over((await fleet.migrate(ORDER)).id);
    assert.doesNotMatch(tls.error?.message ?? '', /cut off/);
    destination.events.pop();
    const cut = await fleet.over((await fleet.migrate({ ...ORDER, mode: ['pinned'] })).id);
    const said = `it closed the connection; the agent on host2 says: ${why}`;
    assert.equal(cut.error?.code, 'migration.failed');
    assert.ok(cut.error?.message.includes(`in phase perform: ${said}; guest is on host1 as before`));
    assert.match(cut.error?.hint ?? '', /virt-trust host revoke host1/);
    assert.equal(cut.migration?.error?.message, said);
  });

  it("fails with libvirt's own words, the phase and where the VM is, and leaves no leave behind", async (t) => {
    const fleet = await pair(t);
    const message = 'internal error: unable to connect to server at 192.0.2.12:49152\nmore of it';
    fleet.source.onStart = () => ({
      phase: 'failed',
      step: 'perform',
      runsOn: 'source',
      error: { message, hint: 'see the firewall' },
    });
    const { error } = await fleet.over((await fleet.migrate(ORDER)).id);
    assert.equal(error?.code, 'migration.failed');
    assert.equal(
      error?.message,
      `cannot migrate guest from host1 to host2 in phase perform: ${message}; guest is on host1 as before`,
    );
    assert.equal(error?.hint, 'see the firewall');
    assert.deepEqual([fleet.source.grants.size, fleet.destination.grants.size], [0, 0]);
  });

  it('says what to type where nobody can know where the VM runs', async (t) => {
    const fleet = await pair(t);
    fleet.source.onStart = () => ({
      phase: 'operator-needed',
      step: 'finish',
      runsOn: 'unknown',
      error: null,
    });
    const { error } = await fleet.over((await fleet.migrate(ORDER)).id);
    assert.equal(error?.code, 'migration.operator_needed');
    assert.match(error?.message ?? '', /in phase finish.*it is paused on host1/);
    assert.match(error?.hint ?? '', /virsh domstate --reason guest.*virsh destroy guest.*virsh resume guest/);
  });

  it('is cancelled where it runs, and waits for what became of it', async (t) => {
    const fleet = await pair(t);
    fleet.source.onStart = () => ({});
    const { id } = await fleet.migrate(ORDER);
    await fleet.until(id, started);
    await fleet.jobs.cancel(id, 'token:test');
    const job = await fleet.over(id);
    assert.deepEqual(
      [job.state, job.migration?.phase, job.migration?.runsOn],
      ['cancelled', 'cancelled', 'source'],
    );
    assert.deepEqual([fleet.source.grants.size, fleet.destination.grants.size], [0, 0]);
  });

  it('is not cancelled in post-copy: it says where the VM runs and what to do, and goes on to its end', async (t) => {
    const fleet = await pair(t);
    fleet.source.onStart = () => ({});
    const { id } = await fleet.migrate(ORDER);
    await fleet.until(id, started);
    fleet.source.become(id, { progress: { ...PROGRESS, stage: 'post-copy' } });
    await fleet.until(id, (job) => job.progress?.stage === 'post-copy');
    await assert.rejects(fleet.jobs.cancel(id, 'token:test'), (error: TrustError) => {
      assert.deepEqual([error.code, error.category], ['migration.post_copy', 'conflict']);
      assert.match(error.message, /guest runs on host2 already, and on no other host.*host1/);
      assert.match(error.hint ?? '', /virt-trust job watch.*on host2: virsh domstate --reason guest/);
      return true;
    });
    fleet.source.become(id, { phase: 'done', runsOn: 'destination' });
    const { state, result } = await fleet.over(id);
    assert.equal(state, 'done');
    assert.ok(!(result ?? '').includes('too late'), result ?? '');
  });

  it('says that it was cancelled too late where libvirt had handed it over already', async (t) => {
    const fleet = await pair(t);
    fleet.source.onStart = () => ({});
    fleet.source.onCancel = () => ({ phase: 'done', runsOn: 'destination' });
    const { id } = await fleet.migrate(ORDER);
    await fleet.until(id, started);
    await fleet.jobs.cancel(id, 'token:test');
    const { state, result } = await fleet.over(id);
    assert.equal(state, 'done');
    assert.match(result ?? '', /guest runs on host2; .*cancelled too late/);
  });

  it('is cancelled while the pair is checked, and nothing is begun', async (t) => {
    const fleet = await pair(t);
    fleet.destination.up = false;
    const { id } = await fleet.migrate(ORDER);
    await fleet.until(id, ({ steps }) => steps.some(({ name }) => name === 'Check the pair'));
    await fleet.jobs.cancel(id, 'token:test');
    assert.equal((await fleet.over(id)).state, 'cancelled');
    assert.equal(fleet.source.orders.size, 0);
    assert.equal(fleet.source.grants.size, 0);
  });

  it('tells how far it is in the job and in the events', async (t) => {
    const fleet = await pair(t);
    fleet.source.onStart = () => ({});
    const { id } = await fleet.migrate(ORDER);
    await fleet.until(id, started);
    fleet.source.become(id, {
      progress: PROGRESS,
    });
    const job = await fleet.until(id, ({ progress }) => progress !== null);
    assert.equal(job.progress?.expectedDowntimeMs, 300);
    fleet.source.become(id, { phase: 'done', runsOn: 'destination' });
    await fleet.over(id);
    const [event] = await fleet.published('migration.progress');
    assert.equal(
      event?.message,
      'host1 to host2: pre-copy 50 %, memory 32 of 64 MiB, pass 2, 1 MiB/s, about 32 s left, downtime 300 ms',
    );
  });

  it('outlives a channel that breaks', async (t) => {
    const fleet = await pair(t);
    fleet.source.onStart = () => ({});
    const { id } = await fleet.migrate(ORDER);
    await fleet.until(id, started);
    fleet.source.up = false;
    fleet.source.wake();
    await fleet.until(id, (job) => job.steps.some(({ detail }) => /is away/.test(detail)));
    fleet.source.up = true;
    fleet.source.become(id, { phase: 'done', runsOn: 'destination' });
    assert.equal((await fleet.over(id)).state, 'done');
  });

  it('goes on when the manager is there again, and is started once', async (t) => {
    const first = await pair(t);
    first.source.onStart = () => ({});
    const { id } = await first.migrate(ORDER);
    await first.until(id, started);
    await first.stop();
    assert.deepEqual([first.source.grants.size, first.destination.grants.size], [1, 1]);
    const second = await migratingFleet(t, first.directory, first.agents);
    await second.until(id, started);
    first.source.become(id, { phase: 'done', runsOn: 'destination' });
    const job = await second.over(id);
    assert.equal(job.state, 'done');
    assert.equal(first.source.calls.filter((call) => call === 'PUT migrations start').length, 1);
    assert.deepEqual([first.source.grants.size, first.destination.grants.size], [0, 0]);
  });

  it('takes back what a manager that died in the check of the pair left of permissions', async (t) => {
    const first = await pair(t);
    const { source, destination } = first;
    const asked = Promise.withResolvers<void>();
    const died = Promise.withResolvers<void>();
    source.onPreflight = () => {
      asked.resolve();
      return died.promise;
    };
    const { id } = await first.migrate(ORDER);
    await asked.promise;
    // A manager that is killed takes nothing back.
    for (const agent of [source, destination]) agent.up = false;
    const stopped = first.stop();
    died.resolve();
    await stopped;
    for (const agent of [source, destination]) agent.up = true;
    assert.deepEqual([source.grants.size, destination.grants.size], [1, 1]);
    const second = await migratingFleet(t, first.directory, first.agents);
    assert.equal((await second.over(id)).state, 'done');
    assert.deepEqual([source.grants.size, destination.grants.size], [0, 0]);
  });

  it('says where the VM is seen where the agent knows no more of what was begun', async (t) => {
    const first = await pair(t);
    first.source.onStart = () => ({});
    const { id } = await first.migrate(ORDER);
    await first.until(id, started);
    await first.stop();
    first.source.statuses.clear();
    first.destination.vms = ['guest'];
    const second = await migratingFleet(t, first.directory, first.agents);
    const { error } = await second.over(id);
    assert.equal(error?.code, 'migration.outcome_unknown');
    assert.match(
      error?.message ?? '',
      /knows no more of it; it does not run on host1; on host2 it is running/,
    );
  });
});
