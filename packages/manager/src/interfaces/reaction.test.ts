import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { test } from 'node:test';
import { parseHostId } from '@virt-trust/base/host-id.ts';
import { HOUR, MINUTE } from '@virt-trust/base/instant.ts';
import { settledState, testInterface } from '../hosts/fixtures.ts';
import { temporaryDirectory } from '../store/fixtures.ts';
import { declaringFleet } from './fixture-fleet.ts';

const eth2 = (...addresses: string[]) => testInterface('eth2', addresses);

test('an address that a host reports where it may is in its certificate a job later, and gone with its next report', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  await fleet.add('kvm1', '192.0.2.11');
  await fleet.report('kvm1', eth2('10.0.2.11'));
  await fleet.settle();
  assert.deepEqual(fleet.provisioned, ['kvm1']);
  assert.deepEqual(await fleet.served('kvm1'), ['kvm1', '192.0.2.11', '10.0.2.11']);
  await fleet.report('kvm1');
  await fleet.settle();
  assert.deepEqual(await fleet.served('kvm1'), ['kvm1', '192.0.2.11']);
  const jobs = await fleet.jobs.list(undefined, 10);
  assert.deepEqual(
    jobs.map(({ actor, job }) => [actor, job.kind, job.state]),
    [
      ['system:interfaces', 'host-provision', 'done'],
      ['system:interfaces', 'host-provision', 'done'],
    ],
  );
  assert.deepEqual(await fleet.audited('host.declare'), [
    {
      actor: 'system:interfaces',
      subject: 'kvm1',
      outcome: 'done',
      detail: 'now 10.0.2.11 on eth2 (migration)',
    },
    {
      actor: 'system:interfaces',
      subject: 'kvm1',
      outcome: 'done',
      detail: 'no longer 10.0.2.11 on eth2 (migration)',
    },
  ]);
});

test('a report that says the same, or something of no role, has nothing done', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.add('kvm1', '192.0.2.11');
  const before = await fleet.served('kvm1');
  await fleet.report('kvm1', eth2('10.0.2.11'));
  await fleet.report('kvm1', eth2('10.0.2.12'), testInterface('vnet0', []));
  await fleet.settle();
  assert.deepEqual(fleet.provisioned, []);
  assert.deepEqual(await fleet.served('kvm1'), before);
  assert.deepEqual(await fleet.audited('host.declare'), []);
});

test('what is refused is noted once, not with each report', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.add('kvm1', '192.0.2.11');
  const moved = testInterface('eth0', ['192.0.2.11', '198.51.100.7']);
  await fleet.report('kvm1', moved);
  await fleet.settle();
  await fleet.report('kvm1', moved, eth2('10.0.2.11'));
  await fleet.settle();
  assert.deepEqual(
    (await fleet.hostOf('kvm1')).declared.refused.map(({ name, rule }) => [name, rule]),
    [['198.51.100.7', 'interface.outside_subnets']],
  );
  assert.deepEqual(await fleet.audited('host.declare'), [
    {
      actor: 'system:interfaces',
      subject: 'kvm1',
      outcome: 'refused',
      detail: 'interface.outside_subnets: 198.51.100.7 on eth0',
    },
  ]);
  assert.deepEqual(fleet.provisioned, []);
});

test('an address that another host has is refused, the incumbent goes on; once let go it is the other’s at once', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  await fleet.add('kvm1', '192.0.2.11');
  await fleet.add('kvm2', '192.0.2.12');
  await fleet.report('kvm1', eth2('10.0.2.50'));
  await fleet.settle();
  await fleet.report('kvm2', eth2('10.0.2.50', '10.0.2.12'));
  await fleet.settle();
  // The newcomer's one address is refused, and nothing else of it.
  assert.deepEqual(await fleet.served('kvm2'), ['kvm2', '192.0.2.12', '10.0.2.12']);
  const { refused } = (await fleet.hostOf('kvm2')).declared;
  assert.deepEqual(
    refused.map(({ name, rule, reason }) => [name, rule, /kvm1/.test(reason)]),
    [['10.0.2.50', 'interface.address_conflict', true]],
  );
  assert.deepEqual([...fleet.reaction.refusedByRule()], [['interface.address_conflict', 1]]);
  const incumbent = await fleet.declaring.redeclare((await fleet.hostOf('kvm1')).id, 'test');
  assert.ok(incumbent.declared.names.addresses.includes('10.0.2.50'));
  await fleet.report('kvm1', eth2());
  await fleet.settle();
  assert.deepEqual(await fleet.served('kvm1'), ['kvm1', '192.0.2.11']);
  assert.deepEqual(await fleet.served('kvm2'), ['kvm2', '192.0.2.12', '10.0.2.12', '10.0.2.50']);
  assert.deepEqual((await fleet.hostOf('kvm2')).declared.refused, []);
});

test('what a removed host had is free for the host that was refused it', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  await fleet.add('kvm1', '192.0.2.11');
  await fleet.add('kvm2', '192.0.2.12');
  for (const name of ['kvm1', 'kvm2']) {
    await fleet.report(name, eth2('10.0.2.50'));
    await fleet.settle();
  }
  assert.deepEqual(await fleet.served('kvm2'), ['kvm2', '192.0.2.12']);
  await fleet.repository.remove((await fleet.hostOf('kvm1')).id);
  await fleet.settle();
  assert.deepEqual(await fleet.served('kvm2'), ['kvm2', '192.0.2.12', '10.0.2.50']);
});

test('a setting reaches the hosts that it holds for, and no other', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.add('kvm1', '192.0.2.11', { cluster: 'rack1' });
  await fleet.add('kvm2', '192.0.2.12');
  for (const [name, address] of [
    ['kvm1', '10.0.2.11'],
    ['kvm2', '10.0.2.12'],
  ] as const)
    await fleet.report(name, eth2(address));
  await fleet.settle();
  await fleet.setting('role.migration', ['10.0.2.0/24'], 'rack1');
  await fleet.settle();
  assert.deepEqual(fleet.provisioned, ['kvm1']);
  const host = await fleet.hostOf('kvm2');
  await fleet.repository.update(host.id, (now) => ({ ...now, cluster: 'rack1' }));
  await fleet.settle();
  assert.deepEqual(fleet.provisioned, ['kvm1', 'kvm2'], 'a host that comes into the cluster gets it as well');
});

test('a host that is away gets its certificates when it is back', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  const { id } = await fleet.add('kvm1', '192.0.2.11');
  await fleet.report('kvm1', eth2('10.0.2.11'));
  fleet.down.add(id);
  await fleet.setting('role.migration', ['eth2']);
  await fleet.setting('interface.allowed_subnets', ['10.0.2.0/24']);
  await fleet.settle();
  assert.deepEqual(fleet.provisioned, []);
  assert.ok((await fleet.hostOf('kvm1')).declared.names.addresses.includes('10.0.2.11'));
  fleet.down.clear();
  fleet.reaction.channelUp(id);
  await fleet.settle();
  assert.deepEqual(await fleet.served('kvm1'), ['kvm1', '192.0.2.11', '10.0.2.11']);
});

test('a frozen fleet is declared anew and not touched; once thawed it is brought right', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  await fleet.add('kvm1', '192.0.2.11');
  fleet.held.frozen = true;
  await fleet.report('kvm1', eth2('10.0.2.11'));
  await fleet.settle();
  assert.deepEqual(fleet.provisioned, []);
  fleet.held.frozen = false;
  await fleet.reaction.resume();
  await fleet.settle();
  assert.deepEqual(await fleet.served('kvm1'), ['kvm1', '192.0.2.11', '10.0.2.11']);
});

test('a job that fails is tried again later and later, and at once for other names', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  const { id } = await fleet.add('kvm1', '192.0.2.11');
  fleet.onProvision(async () => {
    throw new Error('no disk');
  });
  await fleet.report('kvm1', eth2('10.0.2.11'));
  await fleet.settle();
  assert.equal(fleet.provisioned.length, 1);
  // Whatever happens to the host meanwhile, it is not tried before its time.
  await fleet.reaction.resume();
  await fleet.settle();
  assert.equal(fleet.provisioned.length, 1);
  fleet.clock.advance(MINUTE);
  await fleet.reaction.resume();
  await fleet.settle();
  assert.equal(fleet.provisioned.length, 2);
  fleet.clock.advance(20_000);
  await fleet.reaction.resume();
  await fleet.settle();
  assert.equal(fleet.provisioned.length, 2, 'the second wait is longer');
  fleet.onProvision(async () => {});
  fleet.reaction.channelUp(id);
  await fleet.settle();
  assert.equal(fleet.provisioned.length, 3, 'a host that comes back is tried at once');
  assert.deepEqual(await fleet.served('kvm1'), ['kvm1', '192.0.2.11', '10.0.2.11']);
});

test('a manager that was stopped in the middle goes on with what hosts serve', async (t) => {
  const directory = temporaryDirectory(t);
  const first = await declaringFleet(t, directory);
  await first.setting('role.migration', ['10.0.2.0/24']);
  await first.add('kvm1', '192.0.2.11');
  first.held.frozen = true;
  await first.report('kvm1', eth2('10.0.2.11'));
  await first.settle();
  await first.stop();
  const second = await declaringFleet(t, directory, first.clock);
  await second.reaction.start();
  await second.settle();
  assert.deepEqual(await second.served('kvm1'), ['kvm1', '192.0.2.11', '10.0.2.11']);
});

test('a change under a job that has planned already is brought by one more after it, and never by two', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  await fleet.add('kvm1', '192.0.2.11');
  const started = Promise.withResolvers<void>();
  const goOn = Promise.withResolvers<void>();
  fleet.onProvision(async () => {
    started.resolve();
    await goOn.promise;
  });
  await fleet.report('kvm1', eth2('10.0.2.11'));
  await started.promise;
  for (const last of [12, 13, 14]) {
    await fleet.report('kvm1', eth2(`10.0.2.${last}`));
    await fleet.reaction.quiet();
  }
  assert.equal(fleet.jobs.unfinished('host-provision').length, 1);
  goOn.resolve();
  await fleet.settle();
  assert.deepEqual(await fleet.served('kvm1'), ['kvm1', '192.0.2.11', '10.0.2.14']);
  assert.ok(fleet.provisioned.length <= 2, String(fleet.provisioned.length));
});

test('SECURITY: a host that changes its report on and on is declared anew no faster than its pace', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  await fleet.add('kvm1', '192.0.2.11');
  for (let round = 1; round <= 60; round++) {
    await fleet.report('kvm1', eth2(`10.0.2.${round}`));
    await fleet.settle();
  }
  assert.ok(
    fleet.provisioned.length >= 10 && fleet.provisioned.length <= 25,
    String(fleet.provisioned.length),
  );
  fleet.clock.advance(HOUR);
  await fleet.report('kvm1', eth2('10.0.2.99'));
  await fleet.settle();
  assert.deepEqual(await fleet.served('kvm1'), ['kvm1', '192.0.2.11', '10.0.2.99'], 'and catches up');
});

test('SECURITY: a host that adds and drops an address for hours, and its channel too, has certificates revoked at a pace', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  const { id } = await fleet.add('kvm1', '192.0.2.11');
  for (let round = 0; round < 120; round++) {
    await fleet.report('kvm1', ...(round % 2 === 0 ? [eth2('10.0.2.11')] : []));
    await fleet.settle();
    fleet.reaction.channelUp(id);
    await fleet.settle();
    fleet.clock.advance(MINUTE);
  }
  const made = fleet.provisioned.length;
  assert.ok(made >= 30 && made <= 30 + 120 / 10 + 1, `${made} in two hours`);
  fleet.clock.advance(HOUR);
  fleet.reaction.channelUp(id);
  await fleet.settle();
  assert.deepEqual(await fleet.served('kvm1'), ['kvm1', '192.0.2.11'], 'and catches up');
});

test('hosts that are only observed, revoked, removed or serve what was found are declared, and not worked on', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  await fleet.add('kvm1', '192.0.2.11', { observeOnly: true, state: 'observed' });
  await fleet.add('kvm2', '192.0.2.12');
  await fleet.add('kvm3', '192.0.2.13', { state: 'provisioning', observed: settledState('found') });
  await fleet.add('kvm4', '192.0.2.14');
  const revoke = async (name: string) =>
    fleet.repository.update((await fleet.hostOf(name)).id, (now) => ({
      ...now,
      revoked: { at: fleet.clock.now(), reason: 'keyCompromise' as const, comment: '' },
    }));
  await revoke('kvm2');
  await fleet.repository.update((await fleet.hostOf('kvm4')).id, (now) => ({ ...now, state: 'removing' }));
  for (const digit of [1, 2, 3, 4]) {
    await fleet.report(`kvm${digit}`, eth2(`10.0.2.1${digit}`));
    await fleet.settle();
  }
  assert.deepEqual(fleet.provisioned, []);
  const declared = async (name: string) => (await fleet.hostOf(name)).declared.names.addresses;
  assert.deepEqual(await declared('kvm2'), ['192.0.2.12', '10.0.2.12']);
  assert.deepEqual(await declared('kvm4'), ['192.0.2.14'], 'of a host that goes nothing is claimed any more');
});

test('a whole fleet that changes at once is worked on in a bounded number, and all of it', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  const names = Array.from({ length: 9 }, (_, index) => `kvm${index + 1}`);
  for (const [index, name] of names.entries()) {
    await fleet.add(name, `192.0.2.1${index + 1}`);
    await fleet.report(name, eth2(`10.0.2.1${index + 1}`));
  }
  let most = 0;
  fleet.onProvision(async () => {
    most = Math.max(most, fleet.jobs.unfinished('host-provision').length);
    await new Promise(setImmediate);
  });
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  await fleet.settle();
  assert.deepEqual(fleet.provisioned.toSorted(), names);
  assert.ok(most <= 8, String(most));
});

test('hosts that wait for their turn get it although those before them went away meanwhile', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  const hosts = [];
  for (let at = 1; at <= 18; at++)
    hosts.push(await fleet.add(`kvm${at}`, `192.0.2.${at}`, { id: parseHostId(randomUUID()) }));
  const [eight, go] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  fleet.onProvision(async () => {
    if (fleet.provisioned.length === 8) eight.resolve();
    await go.promise;
  });
  for (const [at, { name }] of hosts.entries()) await fleet.report(name, eth2(`10.0.2.${at + 1}`));
  await eight.promise;
  await fleet.reaction.quiet();
  for (const { id } of hosts.slice(8, 16)) fleet.down.add(id);
  go.resolve();
  await fleet.settle();
  for (const at of [17, 18])
    assert.deepEqual(await fleet.served(`kvm${at}`), [`kvm${at}`, `192.0.2.${at}`, `10.0.2.${at}`]);
});

test('SECURITY: a host that turns bad reports what is others’, the manager’s and nobody’s, and gets its own alone', async (t) => {
  const fleet = await declaringFleet(t, temporaryDirectory(t));
  await fleet.setting('role.migration', ['10.0.2.0/24']);
  await fleet.setting('interface.allowed_domains', ['rack1.example']);
  await fleet.add('kvm1', '192.0.2.11');
  await fleet.add('kvm2', '192.0.2.12');
  await fleet.report('kvm1', eth2('10.0.2.11'));
  await fleet.settle();
  const before = await fleet.served('kvm1');
  const bad = await fleet.hostOf('kvm2');
  await fleet.repository.update(bad.id, (now) => ({
    ...now,
    observed: {
      ...(now.observed ?? settledState('ours')),
      network: {
        hostName: 'manager.example',
        interfaces: [
          testInterface('eth0', ['192.0.2.12', '192.0.2.11', '192.0.2.1', '192.0.2.254']),
          eth2('10.0.2.12', '10.0.2.11', '10.0.2.254', '127.0.0.1', '::ffff:10.0.2.11', '192.168.122.1'),
          testInterface('kvm1', ['192.0.2.11']),
          ...Array.from({ length: 400 }, (_, index) =>
            testInterface(`x${index}`, [`172.16.${index % 200}.1`]),
          ),
        ],
      },
    },
  }));
  await fleet.settle();
  assert.deepEqual(await fleet.served('kvm2'), ['kvm2', '192.0.2.12', '10.0.2.12']);
  assert.deepEqual(await fleet.served('kvm1'), before);
  const { refused } = (await fleet.hostOf('kvm2')).declared;
  assert.deepEqual(Object.fromEntries(refused.map(({ name, rule }) => [name, rule])), {
    '192.0.2.11': 'interface.address_conflict',
    '10.0.2.11': 'interface.address_conflict',
    '192.0.2.1': 'interface.outside_subnets',
    '192.0.2.254': 'interface.outside_subnets',
    '10.0.2.254': 'interface.name_of_manager',
    '127.0.0.1': 'issuance.address_loopback',
    '::ffff:a00:20b': 'issuance.address_mapped',
    '192.168.122.1': 'interface.outside_subnets',
    'manager.example': 'interface.name_of_manager',
  });
  const [entry] = (await fleet.audited('host.declare')).filter(
    ({ subject, outcome }) => subject === 'kvm2' && outcome === 'refused',
  );
  for (const { name, rule } of refused) assert.ok(entry?.detail.includes(`${rule}: ${name}`), name);
});
