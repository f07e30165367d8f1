import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { silentLog } from '@virt-trust/base/log.ts';
import type { HostNetwork } from '@virt-trust/contract/model/inventory.ts';
import { card, network, SimulatedTimers, told } from './fixtures.ts';
import { HostNetworkWatch } from './network-watch.ts';

const A = '192.0.2.1';
const B = '192.0.2.2';

/** A watch over a network that is as the test says. */
function watched(t: TestContext, before?: HostNetwork) {
  const timers = new SimulatedTimers();
  const host = {
    timers,
    before,
    kept: {
      read: async () => host.before,
      write: async (report: HostNetwork) => {
        host.before = report;
      },
    },
    network: network(card('eth0', [A])),
    readable: true,
    watching: true,
    reads: 0,
    events: [] as string[],
    wake: () => {},
    stopped: false,
    /** Where set, a reading takes as long as this. */
    slow: undefined as Promise<void> | undefined,
    begin: () => {
      const watch: HostNetworkWatch = new HostNetworkWatch({
        kept: host.kept,
        timers,
        log: silentLog,
        hostName: () => host.network.hostName,
        read: async (): Promise<HostNetwork> => {
          host.reads++;
          const { network: seen, readable } = host;
          await host.slow;
          if (!readable) throw new Error('no ip here');
          return seen;
        },
        emit: async (kind, subject, message) => {
          // Whoever is woken by it finds the report as it says.
          host.events.push(`${kind} ${subject}: ${message} [${told(watch.report()).join(', ')}]`);
        },
        waker: (wake) => {
          host.wake = wake;
          return {
            get watching() {
              return host.watching;
            },
            stop: async () => {
              host.stopped = true;
            },
          };
        },
      });
      t.after(() => watch.stop());
      return watch;
    },
  };
  return host;
}

test('the first look is at once, is told, and is kept; the same at the next start is nothing new', async (t) => {
  const host = watched(t);
  const watch = host.begin();
  assert.equal(watch.report(), null);
  await watch.start();
  assert.deepEqual(host.events, [`network.changed host: the host is named kvm1; eth0 has ${A} [eth0 ${A}]`]);
  assert.deepEqual(host.before, host.network);
  await watch.stop();
  const next = watched(t, host.before);
  await next.begin().start();
  assert.deepEqual(next.events, []);
  const changed = watched(t, host.before);
  changed.network = network(card('eth0', [A, B]));
  await changed.begin().start();
  assert.deepEqual(changed.events, [`network.changed host: eth0 has ${B} [eth0 ${A} ${B}]`]);
});

test('RFC 2439 §4.4: an interface that is held is told of once, with how long', async (t) => {
  const host = watched(t);
  host.network = network(card('eth0', [A, B]));
  const watch = host.begin();
  await watch.start();
  host.events.length = 0;
  for (let turn = 0; turn < 40; turn++) {
    host.network = network(card('eth0', turn % 2 === 0 ? [A] : [A, B]));
    host.wake();
    await host.timers.pass(400);
  }
  const held = host.events.filter((event) => event.startsWith('network.held'));
  assert.equal(held.length, 1, host.events.join('\n'));
  assert.match(
    held[0] ?? '',
    /^network\.held eth0: it loses addresses over and over: told of as it was for \d+ s or more/,
  );
});

test('a change is looked at when it has been quiet, a storm of them every two seconds, one that turned back never told', async (t) => {
  const host = watched(t);
  const watch = host.begin();
  await watch.start();
  host.events.length = 0;
  host.reads = 0;
  host.network = network(card('eth0', [A, B]));
  for (let turn = 0; turn < 3; turn++) {
    host.wake();
    await host.timers.pass(100);
  }
  assert.equal(host.reads, 0);
  await host.timers.pass(300);
  assert.equal(host.reads, 1);
  assert.equal(host.events.length, 1);
  for (let turn = 0; turn < 100; turn++) {
    host.wake();
    await host.timers.pass(100);
  }
  assert.ok(host.reads >= 5 && host.reads <= 7, `${host.reads}`);
  await host.timers.pass(1000);
  host.network = network(card('eth0', [A]));
  host.wake();
  await host.timers.pass(100);
  host.network = network(card('eth0', [A, B]));
  host.wake();
  await host.timers.pass(1000);
  assert.equal(host.events.length, 1);
});

test('what is lost is looked at again by itself', async (t) => {
  const host = watched(t);
  const watch = host.begin();
  await watch.start();
  await host.timers.pass(60_000);
  host.events.length = 0;
  host.network = network(card('eth0', [A]), card('eth1', [B]));
  host.wake();
  await host.timers.pass(1000);
  host.network = network(card('eth0', [A]));
  host.wake();
  await host.timers.pass(10_000);
  assert.deepEqual(told(watch.report()), [`eth0 ${A}`]);
  assert.deepEqual(host.events, [
    `network.changed host: eth1 has ${B} [eth0 ${A}, eth1 ${B}]`,
    `network.changed host: eth1 is down [eth0 ${A}, -eth1 ${B}]`,
    `network.changed host: eth1 has no more ${B} [eth0 ${A}]`,
  ]);
});

test('a change of which nobody spoke is seen within a minute, and within seconds while nobody watches', async (t) => {
  const host = watched(t);
  const watch = host.begin();
  await watch.start();
  host.reads = 0;
  await host.timers.pass(600_000);
  assert.equal(host.reads, 10);
  host.network = network(card('eth0', [A, B]));
  await host.timers.pass(60_000);
  assert.deepEqual(told(watch.report()), [`eth0 ${A} ${B}`]);
  host.watching = false;
  await host.timers.pass(60_000);
  host.network = network(card('eth0', [A]));
  await host.timers.pass(10_000);
  assert.deepEqual(told(watch.report()), [`eth0 ${A}`]);
});

test('a host that is renamed is told of within seconds', async (t) => {
  const host = watched(t);
  const watch = host.begin();
  await watch.start();
  host.network = { ...host.network, hostName: 'kvm2.example.org' };
  await host.timers.pass(3000);
  assert.equal(watch.report()?.hostName, 'kvm2.example.org');
  assert.equal(
    host.events.at(-1),
    `network.changed host: the host is named kvm2.example.org, no more kvm1 [eth0 ${A}]`,
  );
});

test('where nothing can be read what was told stays, and it is tried again', async (t) => {
  const host = watched(t);
  host.readable = false;
  const watch = host.begin();
  await watch.start();
  assert.equal(watch.report(), null);
  host.readable = true;
  await host.timers.pass(5000);
  assert.deepEqual(told(watch.report()), [`eth0 ${A}`]);
  // An answer without even the loopback is none.
  host.network = network();
  host.wake();
  await host.timers.pass(60_000);
  assert.deepEqual(told(watch.report()), [`eth0 ${A}`]);
  assert.equal(host.events.length, 1);
});

test('what changes during a look is for the next, and a look that hangs is the only one', async (t) => {
  const host = watched(t);
  const watch = host.begin();
  await watch.start();
  host.reads = 0;
  const gate = Promise.withResolvers<void>();
  host.slow = gate.promise;
  host.wake();
  await host.timers.pass(1000);
  host.network = network(card('eth0', [A, B]));
  for (let turn = 0; turn < 50; turn++) {
    host.wake();
    await host.timers.pass(1000);
  }
  assert.equal(host.reads, 1);
  host.slow = undefined;
  gate.resolve();
  await host.timers.pass(1000);
  assert.equal(host.reads, 2);
  assert.deepEqual(told(watch.report()), [`eth0 ${A} ${B}`]);
});

test('a report that can be neither read nor kept, on a full disk, is told all the same', async (t) => {
  const host = watched(t);
  host.kept.read = async () => {
    throw new Error('damaged');
  };
  host.kept.write = async () => {
    throw new Error('no space left on device');
  };
  const watch = host.begin();
  await watch.start();
  assert.deepEqual(told(watch.report()), [`eth0 ${A}`]);
  assert.equal(host.events.length, 1);
  await host.timers.pass(120_000);
  assert.equal(host.events.length, 1);
});

test('after its end nothing is looked at any more', async (t) => {
  const host = watched(t);
  const watch = host.begin();
  await watch.start();
  host.wake();
  await watch.stop();
  host.reads = 0;
  host.wake();
  await host.timers.pass(600_000);
  assert.equal(host.reads, 0);
  assert.equal(host.stopped, true);
});
