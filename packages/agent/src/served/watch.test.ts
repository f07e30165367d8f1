import assert from 'node:assert/strict';
import { chmod, mkdtemp, rm, unlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { DAY, instant } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { parseSpkiPin, type SpkiPin } from '@virt-trust/base/spki-pin.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import { JournaledEngine } from '../apply/engine.ts';
import { Bell, manage } from '../apply/fixture-manager.ts';
import { desiredState, FileEffects, makeAuthority, makeHost } from '../apply/fixtures.ts';
import type { VmFacts } from '../services/host-effects.ts';
import type { Seen, Sighting } from '../services/sighting.ts';
import { barrierOf } from '../sets/barrier.ts';
import { agentPaths } from '../state/paths.ts';

const OTHER = parseSpkiPin(`sha256:${'B'.repeat(42)}A`);
const VM: VmFacts = { uuid: '1', name: 'guest', vnc: [], spice: [] };

/** A host that serves everything, whose endpoints are seen as the test says. */
async function watchedHost(t: TestContext) {
  const root = await mkdtemp(join(tmpdir(), 'virt-trust-served-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const paths = agentPaths(root);
  await makeHost(paths);
  const authority = await makeAuthority('Ours');
  const bell = new Bell();
  const events: string[] = [];
  const effects = new FileEffects(paths, [], [VM]);
  const clock = { at: systemClock.now(), now: () => clock.at };
  const engine = () =>
    new JournaledEngine({
      paths,
      effects,
      clock,
      log: silentLog,
      emit: async (kind, subject) => {
        events.push(`${kind} ${subject}`);
        bell.ring();
      },
      barrier: barrierOf(undefined),
      proofBoundMs: 60_000,
      mode: 'manage',
      checkIntervalMs: null,
    });
  let current = engine();
  await current.start();
  const observed = await manage(current, bell, authority, desiredState(authority, 1));
  const pins = new Map(observed.credentials.map(({ service, pin }) => [service, pin as SpkiPin]));
  const places = new Map<string, Sighting>();
  const key = (pin: SpkiPin): Seen => ({ kind: 'key', pin, detail: 'TLSv1.3' });
  effects.sight = async (services) =>
    [...places.values()].filter(({ service }) => services.includes(service));
  const see = (service: Service, target: string, seen: Seen, more: Partial<Sighting> = {}) =>
    places.set(target, { service, target, vm: null, reloads: true, seen, ...more });
  t.after(() => current.stop());
  events.length = 0;
  effects.calls.length = 0;
  return {
    paths,
    authority,
    bell,
    events,
    effects,
    clock,
    pins,
    see,
    key,
    places,
    get engine() {
      return current;
    },
    restart: async () => {
      await current.stop();
      current = engine();
      await current.start();
      await current.idle();
    },
    states: async () =>
      Object.fromEntries(
        (await current.observedState()).served.map(({ target, state }) => [target, state] as const),
      ),
  };
}

test('an endpoint that serves another certificate is told to read its files, and seen again', async (t) => {
  const host = await watchedHost(t);
  const { see, key, pins, effects, events } = host;
  const libvirt = pins.get('libvirt') as SpkiPin;
  see('libvirt', '192.0.2.11:16514', key(OTHER));
  see('vnc', 'VM guest 127.0.0.1:5900', key(pins.get('vnc') as SpkiPin), { vm: VM });
  const reload = effects.reload.bind(effects);
  effects.reload = async (service) => {
    await reload(service);
    see('libvirt', '192.0.2.11:16514', key(libvirt));
  };
  await host.engine.round();
  assert.deepEqual(effects.calls, ['reload-libvirt']);
  assert.deepEqual(events, [
    'served.drifted libvirt at 192.0.2.11:16514',
    'repair.done libvirt',
    'served.as_desired libvirt at 192.0.2.11:16514',
  ]);
  const served = (await host.engine.observedState()).served;
  assert.deepEqual(
    served.map(({ target, state, servedPin, expectedPin }) => [target, state, servedPin === expectedPin]),
    [
      ['192.0.2.11:16514', 'as-desired', true],
      ['VM guest 127.0.0.1:5900', 'as-desired', true],
      ['/etc/pki/libvirt-migrate', 'as-desired', true],
      ['/etc/pki/libvirt-nbd', 'as-desired', true],
      ['/etc/pki/libvirt-backup', 'as-desired', true],
    ],
  );
  events.length = 0;
  await host.engine.round();
  assert.deepEqual(events, []);
});

test('what comes back after two repairs is contested, over restarts, until the next application or a quiet day', async (t) => {
  const host = await watchedHost(t);
  const { see, key, effects, events, authority, bell, clock } = host;
  const target = 'VM guest 127.0.0.1:5900';
  see('vnc', target, key(OTHER), { vm: VM });
  for (let round = 0; round < 4; round++) {
    await host.engine.round();
    await host.restart();
  }
  assert.equal(effects.calls.filter((call) => call === 'reload-vnc').length, 2);
  assert.equal((await host.states())[target], 'contested');
  assert.equal(events.filter((event) => event.startsWith('served.contested')).length, 1);
  await manage(host.engine, bell, authority, desiredState(authority, 2));
  await host.engine.round();
  assert.equal((await host.states())[target], 'drifted');
  // Well for longer than the counts are kept.
  see('vnc', target, key(host.pins.get('vnc') as SpkiPin), { vm: VM });
  clock.at = instant(clock.at + 2 * DAY);
  await host.engine.round();
  effects.calls.length = 0;
  see('vnc', target, key(OTHER), { vm: VM });
  await host.engine.round();
  assert.deepEqual(effects.calls, ['reload-vnc']);
});

test('where only a restart of the VM helps nothing is done to it, and the action is said', async (t) => {
  const host = await watchedHost(t);
  const { see, key, effects, events } = host;
  see('spice', 'VM guest 127.0.0.1:5901', key(OTHER), { vm: VM, reloads: false });
  see('spice', 'VM guest 127.0.0.1:5902', { kind: 'plain' }, { vm: VM, reloads: false });
  see('vnc', 'VM guest 127.0.0.1:5900', key(OTHER), { vm: VM, reloads: false });
  await host.engine.round();
  assert.deepEqual(effects.calls, []);
  const served = (await host.engine.observedState()).served.filter(({ vm }) => vm === 'guest');
  assert.deepEqual(
    served.map(({ state, action }) => [state, action]),
    Array(3).fill(['needs-restart', 'restart or migrate the VM']),
  );
  assert.equal(events.length, 3);
});

test('a place where nothing answers is unreachable, and a VM that is gone is no finding', async (t) => {
  const host = await watchedHost(t);
  const { see, effects } = host;
  see('libvirt', '192.0.2.11:16514', { kind: 'nothing', reason: 'connection refused\n' });
  see('vnc', 'VM gone 127.0.0.1:5900', { kind: 'nothing', reason: '' }, { vm: { uuid: '2', name: 'gone' } });
  await host.engine.round();
  const states = await host.states();
  assert.equal(states['192.0.2.11:16514'], 'unreachable');
  assert.equal(states['VM gone 127.0.0.1:5900'], undefined);
  assert.deepEqual(effects.calls, []);
});

test("migration's files are compared as the QEMU user reads them, and a path that is contested is listed", async (t) => {
  const host = await watchedHost(t);
  const { paths, effects, events } = host;
  const digests = effects.digestsForQemu.bind(effects);
  effects.digestsForQemu = async (files) => {
    const all = await digests(files);
    all.delete(files[0] ?? '');
    return all;
  };
  await host.engine.round();
  const [files] = (await host.engine.observedState()).served;
  assert.equal(files?.state, 'drifted');
  assert.match(files?.detail ?? '', /ca-cert\.pem cannot be read by the QEMU user/);
  effects.digestsForQemu = digests;
  const path = paths.at('/etc/pki/libvirt-migrate/server-cert.pem');
  for (let round = 0; round < 3; round++) {
    await unlink(path);
    await writeFile(path, 'theirs');
    await chmod(path, 0o644);
    await host.engine.round();
  }
  assert.equal((await host.states())['/etc/pki/libvirt-migrate/server-cert.pem'], 'contested');
  assert.equal((await host.states())['/etc/pki/libvirt-migrate'], 'drifted');
  assert.ok(events.includes('repair.left_alone /etc/pki/libvirt-migrate/server-cert.pem'));
});

test('nothing is looked at nor repaired while an application runs', async (t) => {
  const host = await watchedHost(t);
  const { see, key, effects, authority } = host;
  see('libvirt', '192.0.2.11:16514', key(OTHER));
  let began: Promise<unknown> | undefined;
  const sight = effects.sight;
  // An application begins while the endpoints are looked at.
  effects.sight = async (services) => {
    began = host.engine.putDesiredState(desiredState(authority, 2, { revision: 2 }));
    await began;
    return await sight(services);
  };
  const round = host.engine.round();
  while (began === undefined) await new Promise((resolve) => setImmediate(resolve));
  await began;
  await manage(host.engine, host.bell, authority, desiredState(authority, 2, { revision: 2 }));
  effects.sight = sight;
  await round;
  assert.ok(!effects.calls.slice(0, effects.calls.indexOf('open-ports')).includes('reload-libvirt'));
  assert.equal(effects.calls.filter((call) => call === 'reload-libvirt').length, 1);
});
