import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Announcement, listenForAnnouncements } from '@virt-trust/channel/announcement-listener.ts';
import { ManualSleep } from '@virt-trust/channel/fixtures.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import { listEvents } from '@virt-trust/contract/agent/operations.ts';
import type { DesiredState } from '@virt-trust/contract/model/desired-state.ts';
import { localAgentClient } from '../doors/local-client.ts';
import { enrolledAgent, noEngines, temporaryRoot } from '../fixtures.ts';
import type { EngineFactory } from '../ports/engines.ts';
import { makeStateDirectories } from '../state/directories.ts';
import { agentPaths } from '../state/paths.ts';
import { ManagerAddresses } from './manager-addresses.ts';

test('an address at which a manager proved its key is admitted for good, and what a manager said as long as it says so', async (t) => {
  const paths = agentPaths(await temporaryRoot(t));
  await makeStateDirectories(paths);
  const first = await ManagerAddresses.open(paths, ['192.0.2.1']);
  assert.equal(first.admits('192.0.2.2'), false);
  assert.equal(await first.prove(['192.0.2.2', '::ffff:192.0.2.1', 'nonsense']), true);
  assert.equal(await first.prove(['192.0.2.2']), false);
  assert.equal(first.tell(['2001:DB8::3']), true);
  assert.equal(first.tell(['2001:db8::3']), false);
  for (const address of ['192.0.2.1', '::ffff:192.0.2.2', '2001:db8:0::3'])
    assert.equal(first.admits(address), true, address);
  assert.deepEqual(first.all, ['192.0.2.1', '192.0.2.2', '2001:db8::3']);
  assert.equal(first.tell([]), true);
  assert.equal(first.admits('2001:db8::3'), false);
  const second = await ManagerAddresses.open(paths, ['192.0.2.9']);
  assert.deepEqual(second.all, ['192.0.2.9', '192.0.2.2']);
});

test('SECURITY: however many addresses managers name, so many are kept, those of the installation first', async (t) => {
  const paths = agentPaths(await temporaryRoot(t));
  await makeStateDirectories(paths);
  const addresses = await ManagerAddresses.open(paths, ['192.0.2.1']);
  for (let count = 0; count < 40; count++) await addresses.prove([`198.51.100.${count}`]);
  addresses.tell(Array.from({ length: 90 }, (_, index) => `203.0.113.${index}`));
  assert.equal(addresses.all.length, 64);
  assert.equal(addresses.all[0], '192.0.2.1');
  assert.ok(addresses.admits('198.51.100.39'));
  assert.equal(addresses.admits('198.51.100.0'), false);
});

test('an agent that no manager came to shows its key to one, and keeps where that was', async (t) => {
  const heard = Promise.withResolvers<Announcement>();
  const host = await enrolledAgent(t);
  const listener = await listenForAnnouncements({
    identity: () => host.manager,
    trustedAgents: () => new PinSet('agent', [host.agentPin]),
    host: '127.0.0.1',
    port: 0,
    onAnnounced: async (announcement) => {
      heard.resolve(announcement);
      return ['192.0.2.7'];
    },
    onRefused: () => {},
  });
  t.after(() => listener.close());
  const engines: EngineFactory = async (context) => {
    const none = await noEngines()(context);
    const settings = { announceTo: [{ address: '127.0.0.1', port: listener.address.port }] };
    return {
      ...none,
      apply: { ...none.apply, desiredState: async () => ({ settings }) as unknown as DesiredState },
    };
  };
  const time = new ManualSleep();
  // It waits as long as it likes the first time, and for ever after.
  let first = true;
  await host.start({
    engines,
    sleep: (milliseconds, signal) => {
      if (!first) return time.sleep(milliseconds, signal);
      first = false;
      return Promise.resolve();
    },
  });
  assert.equal((await heard.promise).agentPin, host.agentPin);
  const client = localAgentClient(host.paths.socket);
  for (let last = 0; ; ) {
    const page = await client.call(listEvents, { query: { after: last, wait: 10 } });
    if (page.events.some(({ kind }) => kind === 'manager.addresses')) break;
    last = page.last;
  }
  const kept = await ManagerAddresses.open(host.paths, []);
  assert.deepEqual(kept.all, ['192.0.2.7']);
});
