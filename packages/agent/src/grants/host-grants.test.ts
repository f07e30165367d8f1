import assert from 'node:assert/strict';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import { DAY, HOUR, type Instant, MINUTE } from '@virt-trust/base/instant.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { identityOf, madeUpPin } from '@virt-trust/channel/fixtures.ts';
import { PinSet } from '@virt-trust/channel/pins.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import { Firewall } from '../firewall/firewall.ts';
import { temporaryRoot } from '../fixtures.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { PeerGuests } from '../ports/grants.ts';
import { makeStateDirectories } from '../state/directories.ts';
import { agentPaths } from '../state/paths.ts';
import { grantFor, noHostCommands } from './fixtures.ts';
import { HostGrants } from './host-grants.ts';

const PEER = madeUpPin('peer');
const STATUS = { granted: 'status', goesOn: true } as const;
const CREATE = { granted: 'create', goesOn: false } as const;
const END = { granted: 'create', goesOn: true } as const;
const FROM_PEER = { pin: PEER, address: '127.0.0.1' };

/** A host whose clock, managers and migrations the test sets; its door opens nothing and says what it was told. */
async function hostWith(t: TestContext, mode: 'manage' | 'observe' = 'manage') {
  const paths = agentPaths(await temporaryRoot(t));
  await makeStateDirectories(paths);
  const own = identityOf('agent');
  const managers = [madeUpPin('manager a'), madeUpPin('manager b')];
  const events: string[] = [];
  const released: string[] = [];
  const over = new Set<string>();
  const running = new Set<string>();
  const world = { now: Date.UTC(2026, 0, 1) as Instant, managers, mode, canListen: true };
  const firewall = new Firewall(paths, noHostCommands);
  const door = {
    state: 'closed' as 'open' | 'closed',
    guests: undefined as PeerGuests | undefined,
    refreshed: 0,
    async open(guests: PeerGuests) {
      if (!world.canListen) throw new Error('the port is taken');
      assert.equal(door.state, 'closed');
      door.state = 'open';
      door.guests = guests;
      return 16518;
    },
    refresh() {
      door.refreshed++;
    },
    async close() {
      door.state = 'closed';
    },
  };
  const context: AgentContext = {
    paths,
    get mode() {
      return world.mode;
    },
    keys: () => ({ current: own, own: own.asPinSet(), managers: new PinSet('manager', world.managers) }),
    run: noHostCommands,
    firewall,
    clock: { now: () => world.now },
    randomness: { bytes: () => new Uint8Array() },
    log: silentLog,
    record: async (kind, subject, message) => void events.push(`${kind} ${subject}: ${message}`),
    inventory: () => Promise.reject(new Error('not in this test')),
  };
  const made: HostGrants[] = [];
  t.after(() => Promise.all(made.map((grants) => grants.close())));
  return {
    world,
    own,
    door,
    events,
    released,
    over,
    running,
    firewall,
    paths,
    a: managers[0] as (typeof managers)[0],
    b: managers[1] as (typeof managers)[0],
    grant: (change: Parameters<typeof grantFor>[1] = {}) => grantFor(PEER, { now: world.now, ...change }),
    /** An agent that starts: it has nothing but what is on the disk. */
    async start() {
      const grants = new HostGrants({
        context,
        isOver: async ({ id }) => over.has(id),
        isRunning: async (id) => running.has(id),
        release: async (id) => void released.push(id),
      });
      made.push(grants);
      await grants.start(door);
      return grants;
    },
    kinds: () => events.map((event) => event.slice(0, event.indexOf(' '))),
  };
}

test('the door is open from the first grant to the last, and the firewall for each grant alone', async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  assert.equal(host.door.state, 'closed');
  const first = host.grant({ peer: { addresses: ['192.0.2.7', '2001:db8::7'] } });
  const second = host.grant();
  assert.deepEqual(await grants.put(first, host.a), { id: first.id, port: 16518, notAfter: first.notAfter });
  assert.equal(host.door.state, 'open');
  await grants.put(second, host.b);
  assert.deepEqual(await host.firewall.opened(), [`grant-${first.id}`, `grant-${second.id}`]);
  const { openings } = JSON.parse(await readFile(host.paths.firewall, 'utf8'));
  assert.deepEqual(openings[0], {
    what: `grant-${first.id}`,
    ports: [{ from: 16518, to: 16518 }],
    from: ['192.0.2.7', '2001:db8::7'],
  });
  assert.deepEqual(
    grants.list().map(({ id }) => id),
    [first.id, second.id],
  );
  await grants.remove(first.id, host.a);
  assert.equal(host.door.state, 'open');
  assert.deepEqual(await host.firewall.opened(), [`grant-${second.id}`]);
  await grants.remove(second.id, host.b);
  assert.equal(host.door.state, 'closed');
  assert.deepEqual(await host.firewall.opened(), []);
  assert.deepEqual(host.released, [first.id, second.id]);
  assert.deepEqual(host.kinds(), ['grant.opened', 'grant.opened', 'grant.closed', 'grant.closed']);
  // Taking away what is gone is fine: a manager does it again where its answer was lost.
  await grants.remove(second.id, host.b);
});

test('a grant is changed and removed by the manager that gave it, and by no other', async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const grant = host.grant();
  await grants.put(grant, host.a);
  const refused = { code: 'grant.not_yours', category: 'denied' };
  await assert.rejects(grants.put({ ...grant, operations: ['preflight'] }, host.b), refused);
  await assert.rejects(grants.remove(grant.id, host.b), refused);
  assert.deepEqual(grants.find(grant.id), grant);
  const longer = { ...grant, notAfter: grant.notAfter + MINUTE };
  await grants.put(longer, host.a);
  await grants.put(longer, host.a);
  assert.deepEqual(grants.find(grant.id), longer);
  assert.deepEqual(grants.list(host.b), []);
  assert.deepEqual(grants.list(host.a), grants.list());
  assert.deepEqual(host.kinds(), ['grant.opened', 'grant.changed']);
});

test('what must not be granted is refused, and opens nothing', async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const now = host.world.now;
  const cases: [Grant, string][] = [
    [host.grant({ notAfter: now }), 'grant.expired'],
    [host.grant({ notAfter: now + DAY + 1 }), 'grant.too_long'],
    [grantFor(host.own.pin, { now }), 'grant.own_key'],
    [grantFor(host.b, { now }), 'channel.pin_role'],
    [host.grant({ peer: { pins: [`sha256:${'A'.repeat(42)}B`] } }), 'pin.malformed'],
    [host.grant({ peer: { addresses: ['127.0.0.1', 'dead:beef'] } }), 'grant.no_address'],
    [host.grant({ peer: { reachedAt: ['be.ef'] } }), 'grant.no_address'],
    [host.grant({ role: 'source', operations: ['create'] }), 'grant.not_of_role'],
  ];
  for (const [grant, code] of cases) await assert.rejects(grants.put(grant, host.a), { code }, code);
  assert.deepEqual(grants.list(), []);
  assert.equal(host.door.state, 'closed');
  assert.deepEqual(await host.firewall.opened(), []);
  await assert.rejects(stat(host.paths.grants), { code: 'ENOENT' });
});

test('a manager may have a host hold so many grants and no more, which leaves room for another', async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const given = Array.from({ length: 65 }, () => host.grant());
  for (const grant of given.slice(0, 64)) await grants.put(grant, host.a);
  await assert.rejects(grants.put(given[64] as Grant, host.a), {
    code: 'grant.too_many',
    category: 'unavailable',
  });
  await grants.put(given[64] as Grant, host.b);
  assert.equal(grants.list().length, 65);
});

test('nothing is asked under a grant after its time, by the clock of the host', async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const grant = host.grant();
  await grants.put(grant, host.a);
  assert.deepEqual(grants.admit(grant.id, FROM_PEER, CREATE), grant);
  assert.equal(host.door.guests?.pins().isTrusted(PEER), true);
  assert.equal(host.door.guests?.admitsAddress('::ffff:127.0.0.1'), true);
  host.world.now = (host.world.now + HOUR) as Instant;
  // Before anybody looked at it.
  assert.throws(() => grants.admit(grant.id, FROM_PEER, STATUS), { code: 'grant.expired' });
  assert.equal(host.door.guests?.pins().isTrusted(PEER), false);
  assert.equal(host.door.guests?.admitsAddress('127.0.0.1'), false);
  await grants.refresh();
  assert.deepEqual(grants.list(), []);
  assert.equal(host.door.state, 'closed');
  assert.deepEqual(host.released, [grant.id]);
  assert.match(host.events.at(-1) ?? '', /^grant\.closed .*it expired unused$/);
});

test('a migration that has begun may be asked about after the time of its grant, until it is over', async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const grant = host.grant();
  await grants.put(grant, host.a);
  await grants.begin(grant.id);
  host.world.now = (grant.notAfter + HOUR) as Instant;
  await grants.refresh();
  assert.equal(host.door.state, 'open');
  assert.deepEqual(host.released, [], 'nothing that runs was cut');
  assert.deepEqual(grants.admit(grant.id, FROM_PEER, STATUS), grant);
  assert.deepEqual(grants.admit(grant.id, FROM_PEER, END), grant);
  for (const asked of [CREATE, { granted: 'preflight', goesOn: false } as const])
    assert.throws(() => grants.admit(grant.id, FROM_PEER, asked), { code: 'grant.expired' });
  const answered = new AbortController();
  grants.end(grant.id, answered.signal);
  assert.throws(() => grants.admit(grant.id, FROM_PEER, STATUS), { code: 'grant.none' });
  await grants.refresh();
  assert.equal(host.door.state, 'open', 'until its answer is read');
  answered.abort();
  await grants.refresh();
  assert.equal(host.door.state, 'closed');
});

test("the source's grant goes by itself when the migration is over", async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const grant = host.grant({ role: 'source', operations: ['status', 'preflight'] });
  await grants.put(grant, host.a);
  host.over.add(grant.id);
  await grants.refresh();
  assert.equal(grants.list().length, 1, 'it has not begun');
  await grants.begin(grant.id);
  await grants.refresh();
  assert.deepEqual(grants.list(), []);
  assert.match(host.events.at(-1) ?? '', /its migration is over$/);
});

test('a migration that nobody ever said to be over is not told of for ever', async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const grant = host.grant();
  await grants.put(grant, host.a);
  await grants.begin(grant.id);
  host.world.now = (grant.notAfter + DAY) as Instant;
  host.running.add(grant.id);
  await grants.refresh();
  assert.throws(() => grants.admit(grant.id, FROM_PEER, STATUS), { code: 'grant.expired' });
  assert.deepEqual(host.released, [], 'its streams are not cut');
  host.running.delete(grant.id);
  await grants.refresh();
  assert.deepEqual(grants.list(), []);
  assert.equal(host.door.state, 'closed');
});

test('a manager that the agent obeys no more loses its grants at once, and another keeps its own', async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const [gone, begun, kept] = [host.grant(), host.grant(), host.grant()];
  await grants.put(gone, host.a);
  await grants.put(begun, host.a);
  await grants.put(kept, host.b);
  await grants.begin(begun.id);
  host.world.managers = [host.b];
  await grants.refresh();
  assert.throws(() => grants.admit(gone.id, FROM_PEER, STATUS), { code: 'grant.none' });
  assert.deepEqual(host.released, [gone.id]);
  // What runs is not cut by a manager's new key; nothing more begins.
  assert.equal(grants.admit(begun.id, FROM_PEER, STATUS).id, begun.id);
  assert.throws(() => grants.admit(begun.id, FROM_PEER, CREATE), { code: 'grant.expired' });
  assert.deepEqual(grants.admit(kept.id, FROM_PEER, CREATE), kept);
});

test("a key that becomes a manager's is no peer's any more", async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const grant = host.grant();
  await grants.put(grant, host.a);
  host.world.managers = [host.a, PEER];
  await grants.refresh();
  assert.deepEqual(grants.list(), []);
  assert.equal(host.door.state, 'closed');
});

test('an agent that starts again opens what still holds, and takes back what does not', async (t) => {
  const host = await hostWith(t);
  const before = await host.start();
  const [short, long] = [host.grant({ notAfter: host.world.now + MINUTE }), host.grant()];
  await before.put(short, host.a);
  await before.put(long, host.b);
  await before.begin(long.id);
  await before.close();
  assert.equal(host.door.state, 'closed');
  host.world.now = (host.world.now + 2 * MINUTE) as Instant;
  const after = await host.start();
  assert.equal(host.door.state, 'open');
  assert.deepEqual(after.list(), [{ id: long.id, port: 16518, notAfter: long.notAfter }]);
  assert.deepEqual(await host.firewall.opened(), [`grant-${long.id}`]);
  host.world.now = (long.notAfter + 1) as Instant;
  assert.deepEqual(after.admit(long.id, FROM_PEER, STATUS), long, 'it knows that it had begun');
  await assert.rejects(after.remove(long.id, host.a), { code: 'grant.not_yours' });
});

test('an agent that ended between a grant and its opening takes back what is nobody any more', async (t) => {
  const host = await hostWith(t);
  const grant = host.grant();
  await host.firewall.open({ what: `grant-${grant.id}`, ports: [{ from: 16518, to: 16518 }], from: null });
  await host.firewall.open({ what: 'channel', ports: [{ from: 16515, to: 16515 }], from: null });
  await host.start();
  assert.deepEqual(await host.firewall.opened(), ['channel']);
  assert.deepEqual(host.released, [grant.id]);
});

test('SECURITY: a file of grants that is damaged grants nothing, and the agent starts', async (t) => {
  const host = await hostWith(t);
  for (const damaged of ['', '{"grants":[{}]}', '\0', `{"grants":${'['.repeat(10_000)}`]) {
    await writeFile(host.paths.grants, damaged);
    const grants = await host.start();
    assert.deepEqual(grants.list(), []);
    assert.equal(host.door.state, 'closed');
  }
});

test('a host that is only looked at any more has no grants', async (t) => {
  const host = await hostWith(t);
  const before = await host.start();
  await before.put(host.grant(), host.a);
  await before.close();
  host.world.mode = 'observe';
  const after = await host.start();
  assert.deepEqual(after.list(), []);
  assert.equal(host.door.state, 'closed');
});

test('a grant for which the door does not open is not held; one from before is, and the door is tried again', async (t) => {
  const host = await hostWith(t);
  const before = await host.start();
  const grant = host.grant();
  await before.put(grant, host.a);
  await before.close();
  host.world.canListen = false;
  const after = await host.start();
  assert.equal(after.list().length, 1);
  await assert.rejects(after.put(host.grant(), host.a), /the port is taken/);
  assert.deepEqual(
    after.list().map(({ id }) => id),
    [grant.id],
  );
  host.world.canListen = true;
  await after.refresh();
  assert.equal(host.door.state, 'open');
});

test('refusals are told within bounds, however often a peer asks', async (t) => {
  const host = await hostWith(t);
  const grants = await host.start();
  const grant = host.grant({ operations: ['status'] });
  await grants.put(grant, host.a);
  for (let count = 0; count < 1000; count++)
    assert.throws(() => grants.admit(grant.id, FROM_PEER, CREATE), { code: 'grant.not_granted' });
  assert.equal(host.events.filter((event) => event.startsWith('grant.refused')).length, 6);
  host.world.now = (host.world.now + MINUTE) as Instant;
  assert.throws(() => grants.admit(grant.id, FROM_PEER, CREATE));
  assert.match(host.events.at(-1) ?? '', /asked for create: grant\.not_granted \(and 994 more before\)$/);
});
