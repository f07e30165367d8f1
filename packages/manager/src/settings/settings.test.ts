import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { test } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import {
  Setting,
  type SettingValue,
  SettingValue as SettingValueSchema,
} from '@virt-trust/contract/model/setting.ts';
import { validatorOf } from '@virt-trust/contract/validate.ts';
import fc from 'fast-check';
import { testHost } from '../hosts/fixtures.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { SqliteSettingStore } from '../store/setting-store.ts';
import { SETTINGS, type SettingName } from './definitions.ts';
import { Settings } from './settings.ts';

const GLOBAL = { scope: 'global', target: '' } as const;
const NAMES = Object.keys(SETTINGS) as SettingName[];

function temporarySettings(t: TestContext) {
  const clock = settableClock();
  const { database } = temporaryStore(t, clock);
  return {
    settings: new Settings(new SqliteSettingStore(database, clock)),
    audit: new SqliteAuditLog(database, clock),
  };
}

const invalid = (error: unknown): boolean =>
  isTrustError(error, 'setting.invalid') && error.hint !== undefined;

test('each default is a value that the setting itself accepts, and each setting explains itself', async (t) => {
  const { settings } = temporarySettings(t);
  for (const name of NAMES) {
    const definition = SETTINGS[name];
    assert.deepEqual(definition.parse(definition.default as never), { value: definition.default });
    assert.ok(definition.description.endsWith('.'), name);
  }
  for (const setting of await settings.list()) {
    validatorOf(Setting)(setting, setting.name);
    assert.equal(setting.from, 'default');
  }
});

test('certificates are back-dated by at least the clock skew that is let through, from the start', async (t) => {
  const { settings } = temporarySettings(t);
  const backdate = (await settings.value('certificate.backdate_minutes')) * 60;
  assert.ok(backdate >= (await settings.value('clock.allowed_skew_seconds')));
});

test('the value of the host wins over its cluster’s, that over the global one, that over the default', async (t) => {
  const { settings } = temporarySettings(t);
  const subject = { host: 'h1', cluster: 'c1' };
  const name = 'renewal.jitter_percent';
  const seen = async () => {
    const { value, from } = await settings.explain(name, subject);
    return [value, from];
  };
  assert.deepEqual(await seen(), [10, 'default']);
  await settings.put(name, 11, GLOBAL, 'a');
  assert.deepEqual(await seen(), [11, 'global']);
  await settings.put(name, 20, { scope: 'cluster', target: 'c1' }, 'a');
  assert.deepEqual(await seen(), [20, 'cluster']);
  await settings.put(name, 25, { scope: 'host', target: 'h1' }, 'a');
  assert.deepEqual(await seen(), [25, 'host']);
  assert.equal(await settings.value(name, { host: 'h2', cluster: 'c1' }), 20);
  assert.equal(await settings.value(name, { cluster: 'c2' }), 11);
  await settings.put(name, null, { scope: 'host', target: 'h1' }, 'a');
  assert.deepEqual(await seen(), [20, 'cluster']);
});

test('no value but one of the setting’s own form is ever kept', async (t) => {
  const { settings } = temporarySettings(t);
  const value = fc.oneof(
    fc.boolean(),
    fc.integer(),
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.string({ unit: 'binary' }),
    fc.array(fc.oneof(fc.string(), fc.constant('tls'), fc.ipV4(), fc.ipV6())),
  );
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...NAMES), value, async (name, candidate) => {
      try {
        await settings.put(name, candidate as SettingValue, GLOBAL, 'a');
      } catch (error) {
        assert.ok(isTrustError(error, 'setting.invalid'));
        return;
      }
      const kept = await settings.value(name);
      assert.deepEqual(kept, candidate);
      validatorOf(SettingValueSchema)(kept, name);
      await settings
        .put(name, null, GLOBAL, 'a')
        .catch((error) => assert.ok(isTrustError(error, 'setting.invalid')));
    }),
    { numRuns: 300 },
  );
});

test('control characters, wrong numbers, unknown modes and addresses with a zone are refused with a hint', async (t) => {
  const { settings } = temporarySettings(t);
  const wrong: [SettingName, SettingValue][] = [
    ['organization', 'a\u0000b'],
    ['organization', 'a\nb'],
    ['organization', ''],
    ['organization', ' a'],
    ['jobs.retention_days', 0],
    ['jobs.retention_days', 1.5],
    ['jobs.retention_days', '90'],
    ['certificate.lifetime', '4m'],
    ['certificate.lifetime', '3651d'],
    ['certificate.lifetime', '90'],
    ['certificate.lifetime', 90],
    ['certificate.restart_lifetime', '2 years'],
    ['renewal.window', ''],
    ['renewal.window', 'Sat 02:00-05:00 Mars/Olympus'],
    ['renewal.window', '25:00-26:00'],
    ['renewal.jitter_percent', 26],
    ['key.algorithm', 'rsa-512'],
    ['migration.mode', []],
    ['migration.mode', ['tls', 'ssh']],
    ['migration.mode', 'tls'],
    ['migration.live', 'true'],
    ['migration.live', 1],
    ['kvm.libvirtd.tls.enabled', 'off'],
    ['migration.compression', 'gzip'],
    ['migration.timeout_action', 'kill'],
    ['migration.copy_storage', 'some'],
    ['migration.parallel', 65],
    ['migration.bandwidth_mib', -1],
    ['certificate.provider', 'acme'],
    ['migration.mode', ['tls', 'tls']],
    ['channel.manager_addresses', ['fe80::1%eth0']],
    ['channel.manager_addresses', ['manager.example']],
  ];
  for (const [name, value] of wrong) await assert.rejects(settings.put(name, value, GLOBAL, 'a'), invalid);
});

test('whoever listens hears of each change once it is kept, and of none that was refused', async (t) => {
  const { settings } = temporarySettings(t);
  const heard: string[] = [];
  settings.onChange((name, place) => heard.push(`${name} ${place.scope} ${place.target}`));
  await settings.put('certificate.lifetime', '5m', { scope: 'host', target: 'h1' }, 'a');
  await assert.rejects(settings.put('certificate.lifetime', '5', GLOBAL, 'a'));
  await settings.put('certificate.lifetime', null, { scope: 'host', target: 'h1' }, 'a');
  assert.deepEqual(heard, ['certificate.lifetime host h1', 'certificate.lifetime host h1']);
});

test('a skew beyond the back-dating is refused from either side', async (t) => {
  const { settings } = temporarySettings(t);
  await assert.rejects(settings.put('clock.allowed_skew_seconds', 4000, GLOBAL, 'a'), invalid);
  await assert.rejects(settings.put('certificate.backdate_minutes', 30, GLOBAL, 'a'), invalid);
  await settings.put('certificate.backdate_minutes', 120, GLOBAL, 'a');
  await settings.put('clock.allowed_skew_seconds', 7200, GLOBAL, 'a');
  await assert.rejects(settings.put('certificate.backdate_minutes', null, GLOBAL, 'a'), invalid);
});

test('a setting of the fleet cannot be set for one host, and one that does not exist not at all', async (t) => {
  const { settings } = temporarySettings(t);
  const host = { scope: 'host', target: 'h1' } as const;
  await assert.rejects(settings.put('clock.allowed_skew_seconds', 60, host, 'a'), (error) =>
    isTrustError(error, 'setting.scope'),
  );
  for (const name of ['nonsense', 'constructor', '__proto__', 'toString']) {
    await assert.rejects(settings.put(name, 1, GLOBAL, 'a'), (error) =>
      isTrustError(error, 'setting.unknown'),
    );
  }
});

test('each change is in the audit log with who made it and what it set', async (t) => {
  const { settings, audit } = temporarySettings(t);
  await settings.put('certificate.lifetime', '90d', { scope: 'cluster', target: 'c1' }, 'token:ann');
  const [entry] = await audit.list(0, 10);
  assert.equal(entry?.actor, 'token:ann');
  assert.equal(entry?.subject, 'certificate.lifetime');
  assert.equal(entry?.detail, 'cluster c1: "90d"');
});

test('a host that was renamed has its settings under its new name, and under the old one there are none', async (t) => {
  const clock = settableClock();
  const { database } = temporaryStore(t, clock);
  const settings = new Settings(new SqliteSettingStore(database, clock));
  const repository = new SqliteHostRepository(database, clock);
  const host = testHost('host-1');
  await repository.save(host);
  const name = 'renewal.jitter_percent';
  await settings.put(name, 7, { scope: 'host', target: 'host-1' }, 'token:a');
  assert.equal(await settings.value(name, { host: 'host-1' }), 7);
  await repository.update(host.id, (now) => ({ ...now, name: 'host-9' }));
  settings.reread();
  assert.equal(await settings.value(name, { host: 'host-9' }), 7);
  assert.equal(await settings.value(name, { host: 'host-1' }), 10);
});

test('a host that is removed takes what was set for it along, so that another of its name has none of it', async (t) => {
  const { settings, audit } = temporarySettings(t);
  const host = (target: string) => ({ scope: 'host', target }) as const;
  const cluster = { scope: 'cluster', target: 'kvm1' } as const;
  await settings.put('migration.mode', ['plain'], host('kvm1'), 'token:a');
  await settings.put('migration.parallel', 4, host('kvm1'), 'token:a');
  await settings.put('migration.parallel', 5, host('kvm2'), 'token:a');
  await settings.put('migration.parallel', 6, cluster, 'token:a');
  assert.deepEqual(await settings.forgetHost('kvm1', 'token:b'), ['migration.mode', 'migration.parallel']);
  assert.deepEqual(await settings.forgetHost('kvm1', 'token:b'), []);
  assert.deepEqual(await settings.value('migration.mode', { host: 'kvm1' }), ['tls', 'pinned', 'plain']);
  assert.equal(await settings.value('migration.parallel', { host: 'kvm2' }), 5);
  assert.equal(await settings.value('migration.parallel', { host: 'kvm1', cluster: 'kvm1' }), 6);
  const told = (await audit.list(0, 100))
    .slice(4)
    .map((entry) => `${entry.actor} ${entry.subject} ${entry.detail}`);
  assert.deepEqual(told, [
    'token:b migration.mode host kvm1: taken back, the host is removed',
    'token:b migration.parallel host kvm1: taken back, the host is removed',
  ]);
});

test('lists of interfaces, subnets and domains are kept in one form, and refused with the reason', async (t) => {
  const { settings } = temporarySettings(t);
  const put = (name: SettingName, ...value: string[]) => settings.put(name, value, GLOBAL, 'test');
  await put('role.display', 'eth1', 'bond*', '10.0.3.0/24', 'FD00:3:0::/64');
  assert.deepEqual(await settings.value('role.display'), ['eth1', 'bond*', '10.0.3.0/24', 'fd00:3::/64']);
  await put('interface.allowed_domains', 'Rack1.Example');
  assert.deepEqual(await settings.value('interface.allowed_domains'), ['rack1.example']);
  const refusals: readonly [SettingName, string[], RegExp][] = [
    [
      'role.display',
      ['10.0.3.7/24'],
      /"10\.0\.3\.7\/24" is an address with .* the subnet is 10\.0\.3\.0\/24/,
    ],
    ['role.display', ['10.0.3.7'], /an address; as a subnet of one it is 10\.0\.3\.7\/32/],
    ['role.display', ['fd00::1'], /as a subnet of one it is fd00::1\/128/],
    ['role.display', ['sixteencharacter'], /1 to 15 characters/],
    ['role.display', ['eth[01]'], /\* for any number of them/],
    ['role.display', ['e th'], /not a name of interfaces/],
    ['role.display', [''], /not a name of interfaces/],
    ['role.display', ['eth1', 'eth1'], /"eth1" is there twice/],
    ['role.display', ['fd00:3::/64', 'FD00:3::/64'], /is there twice/],
    ['interface.allowed_subnets', ['eth1'], /not a subnet such as/],
    ['interface.allowed_subnets', ['10.0.0.0/33'], /from 0 to 32/],
    ['interface.allowed_domains', ['*.rack1.example'], /write it without what stands before, rack1\.example/],
    ['interface.allowed_domains', ['.rack1.example'], /write it without what stands before, rack1\.example/],
    ['interface.allowed_domains', ['rack1.example.'], /without the dot at its end/],
    ['interface.allowed_domains', ['10.0.0.1'], /not a domain such as/],
    ['interface.allowed_domains', ['rack 1'], /not a domain such as/],
    ['interface.allowed_domains', Array.from({ length: 65 }, (_, index) => `d${index}`), /0 to 64 entries/],
  ];
  for (const [name, value, reason] of refusals)
    await assert.rejects(
      put(name, ...value),
      (error) => invalid(error) && reason.test(String(error)),
      `${value}`,
    );
});

test('each place that was looked at is told of, the most specific first, with the one that wins', async (t) => {
  const { settings, audit } = temporarySettings(t);
  const name = 'kvm.libvirtd.tls.enabled';
  const subject = { host: 'h1', cluster: 'c1' };
  const told = async () => {
    const { value, from, chain } = await settings.explain(name, subject);
    return [value, from, ...chain.map((one) => `${one.scope} ${one.target} ${one.value} ${one.wins}`)];
  };
  await settings.put(name, false, { scope: 'cluster', target: 'c1' }, 'a');
  const host = 'host h1 null false';
  const none = ['global  null false', 'default  true false'];
  assert.deepEqual(await told(), [false, 'cluster', host, 'cluster c1 false true', ...none]);
  await settings.put(name, true, { scope: 'host', target: 'h1' }, 'a');
  assert.deepEqual(await told(), [true, 'host', 'host h1 true true', 'cluster c1 false false', ...none]);
  const { chain } = await settings.explain(name, { cluster: 'c2' });
  assert.deepEqual(
    chain.map(({ scope, target, wins }) => [scope, target, wins]),
    [
      ['cluster', 'c2', false],
      ['global', '', false],
      ['default', '', true],
    ],
  );
  const entries = await audit.list(0, 10);
  assert.deepEqual(
    entries.map(({ action, subject: about, detail }) => [action, about, detail]),
    [
      ['setting.put', name, 'cluster c1: false'],
      ['setting.put', name, 'host h1: true'],
    ],
  );
});

test('raw flags that no migration has are refused where they are set, with the reason', async (t) => {
  const { settings } = temporarySettings(t);
  // Peer to peer, TLS, off, resumed, none of libvirt's.
  for (const flags of [2, 4, 1024, 65_536, 524_288, 1 << 30])
    await assert.rejects(
      settings.put('migration.flags', flags, GLOBAL, 'test'),
      (error: unknown) => invalid(error) && /VIR_MIGRATE_|libvirt does not know/.test(String(error)),
      String(flags),
    );
  // Unsafe and paused, or 512 and 32, say nothing against each other.
  await settings.put('migration.flags', 512 | 32, GLOBAL, 'test');
  assert.equal(await settings.value('migration.flags'), 544);
});
