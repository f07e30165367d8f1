import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { InterfaceView } from '@virt-trust/contract/model/interface.ts';
import type { ComposeDomain } from '../../core.ts';
import { testHost, testInterface, testInventory } from '../../hosts/fixtures.ts';
import { hostSettingsOf } from '../../hosts/host-settings.ts';
import type { HostsContext } from '../../hosts/ports.ts';
import { Declaring } from '../../interfaces/declaring.ts';
import type { JobDefinition } from '../../jobs/job.ts';
import { SqliteCertificateStore } from '../../store/certificate-store.ts';
import { SqliteHostRepository } from '../../store/host-repository.ts';
import { temporaryManager } from '../fixtures.ts';
import { hostDetail } from './hosts.ts';
import { interfaceHandlers } from './interfaces.ts';

const KVM1 = testHost('kvm1', {
  inventory: testInventory({
    interfaces: [
      testInterface('lo', ['127.0.0.1'], { leftOut: 'loopback' }),
      testInterface('eth0', ['192.0.2.11']),
      testInterface('eth2', ['10.0.3.7']),
    ],
  }),
});
const WATCHED = testHost('kvm3', { observeOnly: true, state: 'observed' });

/** A manager with the hosts, whose jobs do nothing but say what they were asked. */
async function managerWith(t: TestContext) {
  const payloads: object[] = [];
  const renamedTo: string[] = [];
  let repository: SqliteHostRepository | undefined;
  const compose: ComposeDomain = async (core) => {
    const hostsOf = new SqliteHostRepository(core.database, core.clock);
    repository = hostsOf;
    for (const host of [KVM1, testHost('kvm2'), WATCHED]) await hostsOf.save(host);
    const provision: JobDefinition<{ host: string; renew: boolean }> = {
      kind: 'host-provision',
      run: async (payload) => {
        payloads.push(payload);
        return 'done';
      },
    };
    core.jobs.register(provision);
    const managerNames = () => ({ dns: ['manager.example'], addresses: ['192.0.2.1'] });
    const declaring = new Declaring({
      repository: hostsOf,
      settings: core.settings,
      certificates: new SqliteCertificateStore(core.database, core.clock),
      revocations: { hasEstranged: async () => false },
      managerNamesFor: managerNames,
      mayCertify: () => true,
      jobs: core.jobs,
      job: provision,
    });
    const context = {
      repository: hostsOf,
      managerNamesFor: managerNames,
      mayCertify: () => true,
      tlsOf: async () => ({ enabled: true, from: 'default' as const }),
      settingsOf: (host: { name: string; cluster: string }) =>
        hostSettingsOf(host, 'virt-trust', core.settings),
      announcePort: () => null,
      channels: {
        stateOf: () => null,
        lostAt: () => null,
        renamed: (_: string, name: string) => void renamedTo.push(name),
      },
      audit: {
        append: (entry: Parameters<HostsContext['audit']['append']>[0]) => core.audit.append([entry]),
      },
    } as unknown as HostsContext;
    const alarmsOf = () => ({ warning: 0, critical: 0, first: null });
    return {
      handlers: interfaceHandlers({
        context,
        settings: core.settings,
        jobs: core.jobs,
        provision,
        declaring,
        detailOf: (name) => hostDetail(name, { context, alarmsOf, retryOf: () => null }),
        whileRenaming: (rename) => rename(),
      }),
      clusterOf: async () => 'default',
    };
  };
  const manager = await temporaryManager(t, [compose]);
  const { call } = manager;
  const hostNamed = async (name: string) => {
    const host = await repository?.find(name);
    assert.ok(host, `there is a host ${name}`);
    return host;
  };
  const audited = async (action: string) => {
    const { items } = (await call('GET', '/api/v1/audit?limit=1000')).json() as Record<
      string,
      { action: string; outcome: string; subject: string; detail: string }[]
    >;
    return (items ?? [])
      .filter((entry) => entry.action === action)
      .map(({ outcome, subject, detail }) => `${outcome} ${subject} ${detail}`);
  };
  /** Once a job is over its payload was taken. */
  const over = async (answer: Awaited<ReturnType<typeof call>>) => {
    assert.equal(answer.status, 202, answer.text);
    const response = await fetch(`${manager.url}/api/v1/jobs/${answer.json()['id']}/events`, {
      headers: { authorization: `Bearer ${manager.token}` },
    });
    await response.text();
  };
  return { call, hostNamed, audited, over, payloads, renamedTo };
}

const DISPLAY = { roles: ['display'], dns: ['kvm1.console.example'] };

test('an interface is set, its names are declared, the certificates follow by a job, and all is audited', async (t) => {
  const { call, hostNamed, audited, over, payloads } = await managerWith(t);
  await over(await call('PUT', '/api/v1/hosts/kvm1/interfaces/eth2', { body: DISPLAY }));
  assert.deepEqual(payloads, [{ host: 'kvm1', renew: false }]);
  const { declared } = await hostNamed('kvm1');
  assert.deepEqual(
    declared.interfaces.find(({ name }) => name === 'eth2'),
    { name: 'eth2', roles: ['display'], names: { dns: ['kvm1.console.example'], addresses: ['10.0.3.7'] } },
  );
  assert.deepEqual(await audited('interface.set'), [
    'done kvm1 eth2: roles display, before as set for all; names kvm1.console.example, before none; accepted 10.0.3.7',
  ]);
  const { items } = (await call('GET', '/api/v1/hosts/kvm1/interfaces')).json() as { items: InterfaceView[] };
  assert.deepEqual(
    items.map((one) => [
      one.name,
      one.roles.map(({ role, from }) => `${role} ${from}`).join(),
      one.services.join(),
    ]),
    [
      ['eth0', 'management host add', 'libvirt,migration,nbd,backup'],
      ['eth2', 'display interface set', 'vnc,spice'],
      ['lo', '', ''],
    ],
  );
});

test('roles by setting are shown with the setting that gives them', async (t) => {
  const { call } = await managerWith(t);
  const set = await call('PUT', '/api/v1/settings/role.display?cluster=default', {
    body: { value: ['10.0.3.0/24'] },
  });
  assert.equal(set.status, 200, set.text);
  const { items } = (await call('GET', '/api/v1/hosts/kvm1/interfaces')).json() as { items: InterfaceView[] };
  assert.deepEqual(items.find(({ name }) => name === 'eth2')?.roles, [
    { role: 'display', from: 'setting role.display (cluster default)' },
  ]);
});

test("SECURITY: another host's address is refused with who has it, changes nothing, and is audited", async (t) => {
  const { call, hostNamed, audited, payloads } = await managerWith(t);
  const before = await hostNamed('kvm1');
  const answer = await call('PUT', '/api/v1/hosts/kvm1/interfaces/eth2', {
    body: { roles: ['display'], addresses: ['192.0.2.12'] },
  });
  assert.deepEqual([answer.status, answer.problem().code], [409, 'host.name_conflict']);
  assert.match(
    answer.problem().hint ?? '',
    /virt-trust interface set kvm2 INTERFACE --release 192\.0\.2\.12/,
  );
  assert.deepEqual(await hostNamed('kvm1'), before);
  assert.deepEqual(payloads, []);
  assert.deepEqual(await audited('interface.set'), [
    'refused kvm1 cannot give 192.0.2.12 to host kvm1: host kvm2 has it',
  ]);
});

test('an address that one host lets go another has by being asked for it', async (t) => {
  const { call, hostNamed, over } = await managerWith(t);
  await over(await call('PUT', '/api/v1/hosts/kvm1/interfaces/eth2', { body: DISPLAY }));
  const wanted = { body: { roles: ['display'], addresses: ['10.0.3.7'] } };
  assert.equal((await call('PUT', '/api/v1/hosts/kvm2/interfaces/eth0', wanted)).status, 409);
  const release = { body: { release: ['10.0.3.7'], accept: false } };
  await over(await call('PUT', '/api/v1/hosts/kvm1/interfaces/eth2', release));
  assert.ok(!(await hostNamed('kvm1')).declared.names.addresses.includes('10.0.3.7'));
  await over(await call('PUT', '/api/v1/hosts/kvm2/interfaces/eth0', wanted));
  assert.ok((await hostNamed('kvm2')).declared.names.addresses.includes('10.0.3.7'));
});

test('an interface that there is not is not found, with those that there are; one of a host that is only observed is let be', async (t) => {
  const { call } = await managerWith(t);
  const unknown = await call('PUT', '/api/v1/hosts/kvm1/interfaces/eth9', { body: {} });
  assert.deepEqual(
    [unknown.status, unknown.problem().code, unknown.problem().hint],
    [404, 'interface.unknown', 'it has eth0, eth2'],
  );
  const observed = await call('PUT', '/api/v1/hosts/kvm3/interfaces/eth0', { body: {} });
  assert.deepEqual([observed.status, observed.problem().code], [409, 'host.observe_only']);
  assert.match(observed.problem().hint ?? '', /virt-trust host add kvm3/);
  assert.equal((await call('GET', '/api/v1/hosts/kvm9/interfaces')).status, 404);
});

test('SECURITY: who may only operate sets no interface, no address and no name', async (t) => {
  const { call } = await managerWith(t);
  const created = await call('POST', '/api/v1/tokens', { body: { name: 'op', role: 'operator' } });
  const token = String(created.json()['secret']);
  for (const [path, body] of [
    ['interfaces/eth2', {}],
    ['address', { address: '192.0.2.41' }],
    ['name', { name: 'kvm9' }],
  ] as const) {
    const answer = await call('PUT', `/api/v1/hosts/kvm1/${path}`, { body, token });
    assert.deepEqual([answer.status, answer.problem().code], [403, 'access.role'], path);
  }
});

test('a host is dialled where it is said to be, and the job knows the way back', async (t) => {
  const { call, hostNamed, audited, over, payloads } = await managerWith(t);
  const body = { address: '203.0.113.7', port: 26515 };
  await over(await call('PUT', '/api/v1/hosts/kvm1/address', { body }));
  const host = await hostNamed('kvm1');
  assert.deepEqual(host.channel, { address: '203.0.113.7', port: 26515 });
  assert.ok(host.declared.names.addresses.includes('203.0.113.7'));
  const moved = { to: body, from: { address: '192.0.2.11', port: 16515 }, sshFrom: null, channelOnly: false };
  assert.deepEqual(payloads, [{ host: 'kvm1', renew: false, moved }]);
  assert.deepEqual(await audited('host.set_address'), [
    "done kvm1 dialled at 203.0.113.7 port 26515, before 192.0.2.11 port 16515; names that it can't report 203.0.113.7, before none",
  ]);
});

test('a host is renamed, in its certificates too, and found under its new name alone', async (t) => {
  const { call, hostNamed, audited, renamedTo } = await managerWith(t);
  const answer = await call('PUT', '/api/v1/hosts/kvm1/name', { body: { name: 'kvm9' } });
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.json()['name'], 'kvm9');
  assert.deepEqual((await hostNamed('kvm9')).declared.names.dns, ['kvm9']);
  assert.equal((await call('GET', '/api/v1/hosts/kvm1/interfaces')).status, 404);
  assert.deepEqual(renamedTo, ['kvm9']);
  assert.deepEqual(await audited('host.rename'), ['done kvm9 was kvm1']);
  const again = await call('PUT', '/api/v1/hosts/kvm9/name', { body: { name: 'kvm9' } });
  assert.equal(again.status, 200);
  const taken = await call('PUT', '/api/v1/hosts/kvm9/name', { body: { name: 'kvm2' } });
  assert.deepEqual([taken.status, taken.problem().code], [409, 'host.name_conflict']);
  // What was its name is free.
  assert.equal((await call('PUT', '/api/v1/hosts/kvm2/name', { body: { name: 'kvm1' } })).status, 200);
});
