import assert from 'node:assert/strict';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { temporaryRoot } from '../fixtures.ts';
import { barrierOf } from '../sets/barrier.ts';
import { CONFIGURED_DIRECTORIES } from '../sets/layout.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { JournaledEngine } from './engine.ts';
import { Bell, manage } from './fixture-manager.ts';
import { desiredState, FileEffects, makeAuthority, makeHost, served, tlsOff } from './fixtures.ts';

async function hostOf(t: TestContext, options: { failing?: string[]; vms?: FileEffects['vms'] } = {}) {
  const paths = agentPaths(await temporaryRoot(t));
  const [ours, found] = await Promise.all([makeAuthority('Ours'), makeAuthority('Found')]);
  await makeHost(paths, found);
  await mkdir(paths.agent, { recursive: true });
  const original = await etc(paths);
  const effects = new FileEffects(paths, options.failing, options.vms);
  const bell = new Bell();
  const events: string[] = [];
  let applied = 0;
  const engine = new JournaledEngine({
    paths,
    effects,
    clock: systemClock,
    log: silentLog,
    emit: async (kind, subject, message) => {
      events.push(`${kind} ${subject} ${message}`);
      bell.ring();
    },
    applied: async () => void applied++,
    barrier: barrierOf(undefined),
    proofBoundMs: 60_000,
    mode: 'manage',
    checkIntervalMs: null,
  });
  await engine.start();
  t.after(() => engine.stop());
  return {
    paths,
    effects,
    engine,
    events,
    original,
    applied: () => applied,
    on: (number: number) => manage(engine, bell, ours, desiredState(ours, number)),
    off: (number: number) => manage(engine, bell, ours, tlsOff(ours, number)),
    desired: (number: number) => desiredState(ours, number),
  };
}

async function etc(paths: AgentPaths): Promise<Record<string, string>> {
  const files = await readdir(paths.at('/etc'), { recursive: true, withFileTypes: true });
  const entries = files
    .filter((entry) => !entry.isDirectory())
    .map(async ({ parentPath, name }) => {
      const path = join(parentPath, name);
      return [path, await readFile(path, 'utf8')] as const;
    });
  return Object.fromEntries((await Promise.all(entries)).sort());
}

test('switched off the host has what was found, and the agent says that nothing is served', async (t) => {
  const { paths, engine, effects, events, original, on, off, applied } = await hostOf(t);
  await on(1);
  const before = applied();
  const observed = await off(2);
  assert.deepEqual(await etc(paths), original);
  assert.deepEqual(observed.credentials, []);
  assert.deepEqual([observed.busy, observed.failure, observed.number], [false, null, 2]);
  assert.deepEqual(observed.pending, []);
  assert.deepEqual(observed.served, []);
  assert.equal(observed.settings?.tls, 'off');
  assert.match(events.at(-1) ?? '', /^apply.settled host desired state 1.2 holds: TLS is off, \d+ paths/);
  assert.equal(applied(), before + 1);
  assert.equal((await effects.facts()).sockets.tls.active, false);
  assert.equal((await engine.desiredState())?.settings.tls, 'off');
});

test('switched off twice, or where nothing was ever taken over, nothing is touched', async (t) => {
  const { paths, effects, original, on, off } = await hostOf(t);
  const first = await off(1);
  assert.deepEqual([first.credentials, first.failure], [[], null]);
  assert.deepEqual(await etc(paths), original);
  await on(2);
  await off(3);
  const calls = effects.calls.length;
  await off(4);
  assert.equal(effects.calls.length, calls);
});

test('switched on again the host is served, under numbers of generations that were never used', async (t) => {
  const { paths, on, off } = await hostOf(t);
  const first = await on(1);
  await off(2);
  const second = await on(3);
  assert.ok(second.credentials.every(({ phase }) => phase === 'settled'));
  for (const { service, generation } of second.credentials)
    assert.ok(
      (generation ?? 0) > (first.credentials.find((one) => one.service === service)?.generation ?? 0),
    );
  assert.notEqual((await served(paths, 'libvirt')).certificate, undefined);
});

test('a desired state that names services while TLS is off is refused', async (t) => {
  const { engine, desired } = await hostOf(t);
  const wanted = desired(1);
  await assert.rejects(engine.putDesiredState({ ...wanted, settings: { ...wanted.settings, tls: 'off' } }), {
    code: 'desired_state.invalid',
  });
});

test('what running VMs were started with stays until they are gone, and is said meanwhile', async (t) => {
  const vnc = [{ listen: '127.0.0.1', port: 5900, tlsDirectory: CONFIGURED_DIRECTORIES.vnc }];
  const vm = { uuid: '1', name: 'guest', vnc, spice: [] };
  const vms: (typeof vm)[] = [];
  const { paths, engine, original, on, off } = await hostOf(t, { vms });
  await on(1);
  vms.push(vm);
  const observed = await off(2);
  assert.deepEqual(await etc(paths), original);
  assert.match(observed.pending[0]?.why ?? '', /services\/vnc: stays .*\(guest\)/);
  assert.deepEqual(await readdir(paths.services), ['vnc']);
  vms.splice(0);
  await engine.round();
  assert.deepEqual(await readdir(paths.services).catch(() => []), []);
  assert.deepEqual((await engine.observedState()).pending, []);
});

test('what cannot be told to let go is said, and the files are back all the same', async (t) => {
  const { paths, original, on, off } = await hostOf(t, { failing: ['close-ports'] });
  await on(1);
  const observed = await off(2);
  assert.deepEqual(await etc(paths), original);
  assert.match(observed.pending[0]?.why ?? '', /the firewall: .*told to fail/);
});

test('a host whose TLS is off can be removed, and gives back nothing twice', async (t) => {
  const { paths, engine, original, on, off } = await hostOf(t);
  await on(1);
  await off(2);
  assert.deepEqual(await engine.remove(), { restored: [], left: [] });
  assert.deepEqual(await etc(paths), original);
  assert.equal(await engine.desiredState(), null);
});
