import assert from 'node:assert/strict';
import { test } from 'node:test';
import { MINUTE, SECOND } from '@virt-trust/base/instant.ts';
import type { HostNetwork, Interface } from '@virt-trust/contract/model/inventory.ts';
import fc from 'fast-check';
import { describeDifference } from './difference.ts';
import { card, network, told } from './fixtures.ts';
import { type Settling, settle } from './settling.ts';

/** Readings one after the other, with the time between them in seconds. */
class Host {
  state: Settling;
  now = 1000 * SECOND;
  againMs: number | null = null;
  readonly said: string[] = [];

  constructor(kept: HostNetwork | null = null) {
    this.state = { report: kept, memories: new Map() };
  }

  /** Reads what is there that many seconds later, and as often as a reading is asked for meanwhile, as it was before. */
  read(seconds: number, ...interfaces: Interface[]): string[] {
    return this.readAll(seconds, network(...interfaces));
  }

  readAll(seconds: number, reading: HostNetwork): string[] {
    this.now += seconds * SECOND;
    const { state, difference, againMs } = settle(this.state, reading, this.now);
    this.state = state;
    this.againMs = againMs;
    if (difference !== '') this.said.push(difference);
    return told(state.report);
  }

  /** Reads the same when it is asked for, as often as that is, for so long. */
  wait(seconds: number, ...interfaces: Interface[]): string[] {
    const end = this.now + seconds * SECOND;
    for (let turn = 0; this.againMs !== null && this.now + this.againMs <= end; turn++) {
      assert.ok(turn < 1000, 'it is asked for without end');
      this.read(this.againMs / SECOND, ...interfaces);
    }
    this.now = end;
    return told(this.state.report);
  }
}

const A = '192.0.2.1';
const B = '192.0.2.2';
const V6 = '2001:db8::1';

test('what is gained is told at once, what is lost after it stayed lost', () => {
  const host = new Host();
  assert.deepEqual(host.read(0, card('eth0', [A])), [`eth0 ${A}`]);
  host.read(60, card('eth0', [A]));
  assert.deepEqual(host.read(0, card('eth0', [A, B])), [`eth0 ${A} ${B}`]);
  assert.equal(host.againMs, null);
  assert.deepEqual(host.read(10, card('eth0', [B])), [`eth0 ${B} ${A}`]);
  assert.ok(host.againMs !== null);
  assert.deepEqual(host.wait(10, card('eth0', [B])), [`eth0 ${B}`]);
  assert.equal(host.againMs, null);
  assert.deepEqual(host.said, [
    `the host is named kvm1; eth0 has ${A}`,
    `eth0 has ${B}`,
    `eth0 has no more ${A}`,
  ]);
});

test('leases that are renewed, even those that are taken anew, are not told of', () => {
  const host = new Host();
  host.read(0, card('eth0', [A]));
  host.read(60, card('eth0', [A]));
  host.said.length = 0;
  for (let renewal = 0; renewal < 50; renewal++) {
    host.read(600, card('eth0', [A], { macAddress: `${renewal}` }));
    assert.deepEqual(host.read(1, card('eth0', [])), [`eth0 ${A}`]);
    assert.deepEqual(host.read(1, card('eth0', [A])), [`eth0 ${A}`]);
  }
  assert.deepEqual(host.said, []);
});

test('RFC 8981: temporary addresses come and go without a word, and are listed', () => {
  const host = new Host();
  host.read(0, card('eth0', [V6, '?2001:db8::a0']));
  host.said.length = 0;
  for (let day = 1; day < 30; day++)
    host.read(86_400, card('eth0', [V6, `?2001:db8::a${day - 1}`, `?2001:db8::a${day}`]));
  assert.deepEqual(host.said, []);
  assert.deepEqual(
    host.state.report?.interfaces[0]?.addresses.map((one) => one.address),
    [V6, '2001:db8::a28', '2001:db8::a29'],
  );
});

test('RFC 4862 §5.4: an address is told of once it is known to be no duplicate', () => {
  const host = new Host();
  assert.deepEqual(host.read(0, card('eth0', [A, `~${V6}`])), [`eth0 ${A}`]);
  assert.deepEqual(host.read(2, card('eth0', [A, V6])), [`eth0 ${A} ${V6}`]);
  assert.equal(host.said.length, 2);
});

test('RFC 4862 §5.5.4: a deprecated address stays until it vanishes', () => {
  const host = new Host();
  const deprecated = card('eth0', [A, V6]);
  host.read(0, deprecated);
  host.said.length = 0;
  const former = {
    ...deprecated,
    addresses: deprecated.addresses.map((one) => ({ ...one, deprecated: true })),
  };
  assert.deepEqual(host.read(60, former), [`eth0 ${A} ${V6}`]);
  assert.deepEqual(host.said, []);
  host.read(60, card('eth0', [A]));
  assert.deepEqual(host.wait(10, card('eth0', [A])), [`eth0 ${A}`]);
});

test('a link that goes down keeps what it had, and has time to get it back when it comes up', () => {
  const host = new Host();
  host.read(0, card('eth0', [A]), card('eth1', [B, V6]));
  host.read(60, card('eth0', [A]), card('eth1', [B, V6]));
  host.said.length = 0;
  const down = [card('eth0', [A]), card('eth1', [], { up: false })];
  assert.deepEqual(host.read(0, ...down), [`eth0 ${A}`, `-eth1 ${B} ${V6}`]);
  assert.equal(host.againMs, null);
  assert.deepEqual(host.read(86_400, ...down), [`eth0 ${A}`, `-eth1 ${B} ${V6}`]);
  const coming = [card('eth0', [A]), card('eth1', [`~${V6}`])];
  assert.deepEqual(host.read(0, ...coming), [`eth0 ${A}`, `eth1 ${B} ${V6}`]);
  host.wait(10, ...coming);
  const there = [card('eth0', [A]), card('eth1', [V6])];
  assert.deepEqual(host.read(5, ...there), [`eth0 ${A}`, `eth1 ${V6} ${B}`]);
  assert.deepEqual(host.said, ['eth1 is down', 'eth1 is up']);
  // What does not come is given up.
  assert.deepEqual(host.wait(60, ...there), [`eth0 ${A}`, `eth1 ${V6}`]);
  assert.deepEqual(host.said.slice(2), [`eth1 has no more ${B}`]);
});

test('a boot is no change: addresses and links may be a while in coming', () => {
  const before = network(card('eth0', [A, V6]), card('bond0.100', [B], { kind: 'vlan' }));
  const host = new Host(before);
  assert.deepEqual(host.read(0, card('eth0', [], { up: false })), [
    '-eth0 192.0.2.1 2001:db8::1',
    `-bond0.100 ${B}`,
  ]);
  host.read(3, card('eth0', [A, `~${V6}`]));
  host.read(2, card('eth0', [A, V6]));
  assert.deepEqual(
    host.read(5, card('eth0', [A, V6]), card('bond0.100', [B], { kind: 'vlan' })),
    told(before),
  );
  assert.deepEqual(host.said, ['eth0 is down; bond0.100 is down', 'eth0 is up', 'bond0.100 is up']);
  assert.equal(host.againMs, null);
});

test('what changed while nobody looked is told', () => {
  const host = new Host(network(card('eth0', [A])));
  host.read(0, card('eth0', [A, B]));
  assert.deepEqual(host.said, [`eth0 has ${B}`]);
  const renamed = new Host(network(card('eth0', [A])));
  renamed.readAll(0, { ...network(card('eth0', [A])), hostName: 'kvm2' });
  assert.deepEqual(renamed.said, ['the host is named kvm2, no more kvm1']);
});

test('an address that moved to another interface, or under a bridge, is told of there alone and at once', () => {
  const host = new Host();
  host.read(0, card('eth0', [A, B]));
  host.read(60, card('eth0', [A, B]));
  const port = card('eth0', [], { leftOut: 'a port of bridge br0' });
  assert.deepEqual(host.read(1, port, card('br0', [A, B])), ['eth0', `br0 ${A} ${B}`]);
  host.read(60, card('eth1', [A]), card('br0', [B]));
  assert.deepEqual(told(host.state.report), [`eth1 ${A}`, `br0 ${B}`]);
});

test('an interface that is gone is told as down for a moment, then no more', () => {
  const host = new Host();
  host.read(0, card('eth0', [A]), card('eth1', [B]));
  host.read(60, card('eth0', [A]), card('eth1', [B]));
  assert.deepEqual(host.read(0, card('eth0', [A])), [`eth0 ${A}`, `-eth1 ${B}`]);
  assert.deepEqual(host.wait(5, card('eth0', [A])), [`eth0 ${A}`]);
  assert.equal(host.said.at(-1), `eth1 has no more ${B}`);
});

test('RFC 2439 §4.4: an interface that flaps is held as it was until it is quiet, longer the worse it is; others are not', () => {
  const host = new Host();
  const at = (up: boolean, ...others: string[]) => [card('eth0', [A, ...others]), card('eth1', [B], { up })];
  host.read(0, ...at(true));
  host.said.length = 0;
  for (let flap = 0; flap < 100; flap++) {
    host.read(1, ...at(false));
    host.read(1, ...at(true));
  }
  assert.ok(host.said.length <= 12, host.said.join('\n'));
  const words = host.said.length;
  // Left down: told of as it was, while the other interface changes.
  host.read(1, ...at(false));
  assert.deepEqual(host.read(1, ...at(false, V6)), [`eth0 ${A} ${V6}`, `eth1 ${B}`]);
  assert.equal(host.said.length, words + 1);
  const held = host.againMs ?? 0;
  assert.ok(held > 2 * MINUTE && held <= 5 * MINUTE + SECOND, `${held}`);
  assert.deepEqual(host.wait(held / SECOND + 1, ...at(false, V6)), [`eth0 ${A} ${V6}`, `-eth1 ${B}`]);
  assert.equal(host.said.at(-1), 'eth1 is down');
});

test('an interface that flaps a few times is quiet after about a minute, and four changes of a person are none too many', () => {
  const host = new Host();
  host.read(0, card('eth0', [A]));
  for (const present of [true, false, true, false, true, false]) {
    host.read(8, card('eth0', present ? [A, B] : [A]));
    host.wait(6, card('eth0', present ? [A, B] : [A]));
    assert.deepEqual(told(host.state.report), [present ? `eth0 ${A} ${B}` : `eth0 ${A}`]);
  }
  for (let flap = 0; flap < 4; flap++) {
    host.read(1, card('eth0', [A], { up: false }));
    host.read(1, card('eth0', [A]));
  }
  assert.ok(host.againMs !== null && host.againMs < 2 * MINUTE);
});

test('guests that start and stop, and cards without an address, are no change', () => {
  const host = new Host();
  host.read(0, card('br0', [A], { kind: 'bridge' }));
  host.said.length = 0;
  for (let guest = 0; guest < 600; guest++) {
    const tap = card(`vnet${guest}`, ['fe80::1'], { leftOut: "a guest's network card (tap)" });
    host.read(1, card('br0', [A], { kind: 'bridge' }), tap, card(`cali${guest}`, []));
  }
  assert.deepEqual(host.said, []);
  assert.equal(host.againMs, null);
  assert.equal(host.state.memories.size <= 3, true);
});

test('a difference is told in bounded words, however large', () => {
  const many = Array.from({ length: 60 }, (_, index) => `192.0.2.${index + 1}`);
  const cards = Array.from({ length: 100 }, (_, index) => card(`eth${index}`, many));
  const words = describeDifference(network(), network(...cards));
  assert.ok(words.length < 8000);
  assert.match(words, /^eth0 has 192\.0\.2\.1, .*and 52 more; .*and 76 more changes$/);
  assert.equal(describeDifference(network(...cards), network(...cards.toReversed())), '');
});

test('whatever is read, in the end what is there is told, and nothing else', () => {
  const names = fc.constantFrom('eth0', 'eth1', 'br0');
  const addresses = fc.uniqueArray(fc.constantFrom(A, B, V6, `~${V6}`, '?2001:db8::2'), {
    selector: (text) => text.replace(/^[~?]/, ''),
  });
  const interfaces = fc.uniqueArray(
    fc.tuple(names, addresses, fc.boolean()).map(([name, some, up]) => card(name, some, { up })),
    { selector: ({ name }) => name },
  );
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(40), interfaces)), interfaces, (readings, last) => {
      const host = new Host();
      for (const [seconds, some] of readings) host.read(seconds, ...some);
      // Down, it would keep what it had.
      const up = last.map((one) => ({ ...one, up: true }));
      host.read(0, ...up);
      host.wait(3600, ...up);
      assert.deepEqual(host.state.report?.interfaces, up);
      assert.equal(host.againMs, null);
    }),
  );
});
