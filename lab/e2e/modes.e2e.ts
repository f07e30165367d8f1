import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { isTrustError } from '@virt-trust/base/error.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { listHosts } from '@virt-trust/contract/manager/host-operations.ts';
import {
  createMigrationJob,
  evacuateHost,
  getMigrationMatrix,
  listUnmanagedHosts,
  planMigration,
  putUnmanagedHost,
} from '@virt-trust/contract/manager/migration-operations.ts';
import { putSetting } from '@virt-trust/contract/manager/setting-operations.ts';
import type { HostSummary } from '@virt-trust/contract/model/host.ts';
import type { Job } from '@virt-trust/contract/model/job.ts';
import type { MigrateVm } from '@virt-trust/contract/model/migration.ts';
import type { MigrationMode } from '@virt-trust/contract/model/migration-options.ts';
import type { SettingValue } from '@virt-trust/contract/model/setting.ts';
import { setUpAsFound } from '../src/adoptable.ts';
import { canBootLab } from '../src/capability.ts';
import type { Host } from '../src/host.ts';
import { until } from '../src/until.ts';
import { runningVms, startVm } from '../src/vm.ts';
import { auditOf } from './audit-sight.ts';
import { Fleet } from './fleet.ts';
import { endMigrations, endVms, heardFrom, setRight } from './leftovers.ts';
import { nothingLeft } from './migration-remains.ts';
import { programPath } from './program.ts';
import { RESTART_LIBVIRTD, RESTART_WITH_SOCKETS } from './restart-libvirtd.ts';
import { QEMU_STREAMS, type WireSight, whileWatching } from './wire.ts';

const capability = await canBootLab();
const skip = capability.kind === 'yes' ? false : `cannot boot the lab: ${capability.why}`;
const PATIENCE = 180_000;

/** QEMU's streams, libvirt's RPC with TLS and without, and what runs between agents. */
const WIRES = {
  stream: QEMU_STREAMS,
  libvirtTls: 'tcp port 16514',
  libvirtTcp: 'tcp port 16509',
  agents: 'tcp and (port 16518 or portrange 16520-16583)',
} as const;
type Wires = Record<keyof typeof WIRES, WireSight>;

const FORCE = 'migrate_tls_force';
const QEMU_CONF = '/etc/libvirt/qemu.conf';
const FORCE_MENDED = `if grep -q '^${FORCE}' ${QEMU_CONF}; then
sed -i --follow-symlinks '/^${FORCE}/d' ${QEMU_CONF}; ${RESTART_LIBVIRTD}; fi`;
const OTHER_ADDRESSES = '/etc/systemd/system/libvirtd-tls.socket.d';
const LISTENING_MENDED = `if test -d ${OTHER_ADDRESSES}; then rm -r ${OTHER_ADDRESSES}
${RESTART_WITH_SOCKETS}; fi`;

describe('every cell of the table by which a migration is decided', { skip }, () => {
  let fleet: Fleet;
  let a: Host;
  let b: Host;
  let c: Host;
  /** Warnings in the manager's log. */
  const logged: string[] = [];

  before(async () => {
    fleet = await Fleet.up({
      lab: `e2e-modes-${process.pid}`,
      hosts: ['host-a', 'host-b', 'host-c'],
      log: { ...silentLog, warn: (_, message) => void logged.push(message) },
    });
    [a, b, c] = [fleet.host('host-a'), fleet.host('host-b'), fleet.host('host-c')];
    // Nobody's agent: libvirtd that listens for plain TCP without authentication.
    await setUpAsFound([c], { libvirt: 'tcp', qemuTls: false });
    await Promise.all([fleet.add('host-a'), fleet.add('host-b')]);
    await until('hear what both hosts can do', PATIENCE, async () => {
      const { items } = await fleet.client.call(listHosts, { query: {} });
      return items.every(({ security }) => security.modes.includes('tls')) || undefined;
    });
    await startVm(a, { name: 'guest' });
  });
  beforeEach(async () => {
    const [here, there, elsewhere] = await Promise.all([a, b, c].map(runningVms));
    if (here?.join() === 'guest' && there?.length === 0 && elsewhere?.length === 0) return;
    await endVms(a, b, c);
    await startVm(a, { name: 'guest' });
  });
  // What a step that failed left behind is nothing to the next.
  afterEach(() =>
    setRight(
      async () => {
        if (fleet.url === '') await fleet.startManager();
      },
      () => endMigrations(fleet),
      async () => {
        for (const { setting, scope } of [...changed.values()]) await set(setting, null, scope);
      },
      () => b.run(['systemctl', 'start', 'virt-trust-agent.service']),
      () => b.run(['sh', '-c', LISTENING_MENDED]),
      ...[a, b].map((host) => () => host.run(['sh', '-c', FORCE_MENDED])),
    ),
  );
  after(() => fleet?.[Symbol.asyncDispose]());

  const order = (from: Host, to: Host, ...mode: MigrationMode[]): MigrateVm => ({
    vm: 'guest',
    from: from.name,
    to: to.name,
    ...(mode.length === 0 ? {} : { mode }),
  });
  /** Settings that are not at their defaults. */
  const changed = new Map<string, { readonly setting: string; readonly scope: object }>();
  const set = async (setting: string, value: SettingValue | null, scope: object = {}) => {
    const key = JSON.stringify([setting, scope]);
    changed.set(key, { setting, scope });
    await fleet.client.call(putSetting, { params: { setting }, query: scope, body: { value } });
    if (value === null) changed.delete(key);
  };
  const cli = (...words: string[]): Promise<{ code: number; stdout: string; stderr: string }> =>
    programPath().then(
      (program) =>
        new Promise((resolve) => {
          const env = { ...process.env, VIRT_TRUST_URL: fleet.url, VIRT_TRUST_TOKEN: fleet.token };
          const child = execFile(program, words, { env }, (_, stdout, stderr) =>
            resolve({ code: child.exitCode ?? 1, stdout, stderr }),
          );
        }),
    );
  const audited = (action: string) => auditOf(fleet, action);

  /** How often something went in the clear, as the audit has it: of the manager before it begins, and of the conducting agent when it is done. */
  const toldOfPlain = () =>
    until('read of each VM that it went in the clear', PATIENCE, async () => {
      const outcomes = (await audited('migration.plain')).map(({ outcome }) => outcome);
      const count = (wanted: string) => outcomes.filter((outcome) => outcome === wanted).length;
      const [intent, done] = [count('intent'), count('done')];
      return intent === done ? { intent, done } : undefined;
    });

  /** What is done while the wire is watched. */
  const watching = <T>(work: () => Promise<T>): Promise<{ result: T; wires: Wires }> =>
    whileWatching(fleet.lab, WIRES, work);

  const migrated = (wanted: MigrateVm): Promise<{ result: Job; wires: Wires }> =>
    watching(async () => fleet.finished(await fleet.client.call(createMigrationJob, { body: wanted })));

  async function runsOnlyOn(host: Host): Promise<void> {
    for (const one of [a, b, c])
      assert.deepEqual(await runningVms(one), one === host ? ['guest'] : [], `on ${one.name}`);
  }

  /** Refused at once, with a reason and a way out, and noted; the VM stays. */
  async function refused(wanted: MigrateVm, why: RegExp, code = 'migration.refused'): Promise<void> {
    const before = await runningVms(a);
    await assert.rejects(fleet.client.call(createMigrationJob, { body: wanted }), (error) => {
      assert.ok(isTrustError(error, code), String(error));
      assert.match(error.message, why);
      assert.ok((error.hint ?? '') !== '');
      return true;
    });
    assert.deepEqual(await runningVms(a), before);
    const last = (await audited('migrate')).findLast(({ outcome }) => outcome === 'refused');
    assert.match(last?.detail ?? '', why);
  }

  /** Waits until a host has told what it can do now. */
  const reports = (host: Host, holds: (security: HostSummary['security']) => boolean) =>
    until(`hear what ${host.name} can do`, PATIENCE, async () => {
      const { items } = await fleet.client.call(listHosts, { query: {} });
      const found = items.find(({ name }) => name === host.name);
      return found !== undefined && holds(found.security) ? true : undefined;
    });

  const assertTls = ({ result, wires }: { result: Job; wires: Wires }) => {
    assert.equal(result.plan?.decision.mode, 'tls');
    assert.match(result.result ?? '', /QEMU's stream ran .*tls/);
    assert.ok(wires.stream.tls > 0 && wires.stream.plain === 0, JSON.stringify(wires));
    assert.ok(wires.libvirtTls.tls > 0 && wires.libvirtTls.plain === 0, JSON.stringify(wires));
    assert.equal(wires.libvirtTcp.segments, 0);
    assert.equal(wires.agents.plain, 0);
    assert.deepEqual(result.warnings, []);
  };
  const assertPinned = ({ result, wires }: { result: Job; wires: Wires }) => {
    assert.equal(result.plan?.decision.mode, 'pinned');
    assert.equal(wires.stream.segments, 0);
    assert.equal(wires.libvirtTcp.segments, 0);
    assert.ok(wires.agents.tls > 0 && wires.agents.plain === 0, JSON.stringify(wires));
    assert.match(result.result ?? '', /streams? ran between the agents with X25519MLKEM768/);
    assert.deepEqual(result.warnings, []);
  };
  const assertPlain = (wires: Wires) => {
    assert.ok(wires.stream.plain > 0 && wires.stream.tls === 0, JSON.stringify(wires));
    assert.ok(wires.libvirtTcp.plain > 0, JSON.stringify(wires));
  };

  it('1. tells hosts without an agent apart, and takes no wrong ones', async () => {
    const put = (name: string, address: string) =>
      fleet.client.call(putUnmanagedHost, { params: { name }, body: { address } });
    const added = await cli('host', 'add', 'host-c', '--unmanaged', c.address);
    assert.equal(added.code, 0, added.stderr);
    assert.match(added.stderr, /warning: nothing secures migrations from and to host-c/);
    const listed = await cli('host', 'list');
    assert.match(listed.stdout, /host-c +default +unmanaged/);
    await assert.rejects(put('host-a', '192.0.2.9'), (error) => isTrustError(error, 'host.managed'));
    await assert.rejects(put('twin', b.address), (error) => isTrustError(error, 'host.name_conflict'));
    await assert.rejects(put('here', '127.0.0.1'), (error) => isTrustError(error, 'host.address'));
    const { items } = await fleet.client.call(listUnmanagedHosts, {});
    assert.deepEqual(
      items.map(({ name, address }) => [name, address]),
      [['host-c', c.address]],
    );
  });

  it('2. migrates by tls where both hosts have it, both ways', async () => {
    assertTls(await migrated(order(a, b)));
    await runsOnlyOn(b);
    assertTls(await migrated(order(b, a)));
    await runsOnlyOn(a);
  });

  it('3. migrates by pinned where it is asked for, both ways', async () => {
    assertPinned(await migrated(order(a, b, 'pinned')));
    await runsOnlyOn(b);
    assertPinned(await migrated(order(b, a, 'pinned', 'tls')));
    await runsOnlyOn(a);
  });

  it('4. migrates to and from a host without an agent in the clear, with the warning everywhere', async () => {
    const { result: said, wires } = await watching(() =>
      cli('migrate', 'guest', '--from', 'host-a', '--to', 'host-c'),
    );
    assert.equal(said.code, 0, said.stderr);
    assert.match(said.stderr, /warning: guest crosses the network from host-a to host-c in the clear/);
    assert.match(said.stdout, /guest runs on host-c; .*in the clear/);
    assertPlain(wires);
    await runsOnlyOn(c);
    const there = await audited('migration.plain');
    assert.match(there.find(({ outcome }) => outcome === 'intent')?.detail ?? '', /in the clear/);

    const asked = await fleet.client.call(createMigrationJob, { body: order(c, a) });
    assert.match(asked.warnings[0] ?? '', /guest crosses the network from host-c to host-a in the clear/);
    assert.deepEqual([asked.plan?.decision.mode, asked.plan?.decision.conductor], ['plain', 'destination']);
    const back = await watching(() => fleet.finished(asked));
    assert.deepEqual(back.result.warnings, asked.warnings);
    await runsOnlyOn(a);
    assert.deepEqual(await toldOfPlain(), { intent: 2, done: 2 });
  });

  it('4a. warns everywhere of each VM of a host that is emptied in the clear', async () => {
    await startVm(a, { name: 'second' });
    const crosses = (vm: string) =>
      new RegExp(`${vm} crosses the network from host-a to host-c in the clear`);
    const before = await toldOfPlain();
    logged.length = 0;
    const asked = await fleet.client.call(evacuateHost, {
      params: { name: 'host-a' },
      body: { to: ['host-c'] },
    });
    assert.match(asked.warnings[0] ?? '', crosses('each VM'), 'before anything goes');
    const over = await fleet.finished(asked);
    for (const vm of ['guest', 'second']) {
      assert.ok(
        over.warnings.some((one) => crosses(vm).test(one)),
        over.warnings.join(),
      );
      assert.equal(logged.filter((one) => crosses(vm).test(one)).length, 1, logged.join());
    }
    assert.deepEqual(await toldOfPlain(), { intent: before.intent + 2, done: before.done + 2 });
    await c.run(['virsh', 'destroy', 'second']);
    const said = await cli('migrate', 'guest', '--from', 'host-c', '--to', 'host-a');
    assert.match(said.stderr, /warning: guest crosses the network from host-c to host-a in the clear/);
    await startVm(a, { name: 'second' });
    const told = await cli('migrate', '--all', '--from', 'host-a', '--to', 'host-c');
    assert.equal(told.code, 0, told.stderr);
    for (const vm of ['guest', 'second']) assert.match(told.stderr, crosses(vm));
    await c.run(['virsh', 'destroy', 'second']);
  });

  it('5. refuses towards a host without an agent what needs one, whoever asks and whatever is allowed', async () => {
    await refused(order(a, c, 'tls'), /tls: host-c has no agent/);
    await refused(order(a, c, 'pinned'), /pinned: host-c has no agent/);
    await set('migration.mode', ['tls', 'pinned'], { host: 'host-a' });
    await refused(
      order(a, c),
      /plain: the setting migration\.mode of host-a \(host host-a\) leaves it out|host-c has no agent/,
    );
    await refused(
      order(a, c, 'plain'),
      /the setting migration\.mode of host-a \(host host-a\) leaves it out/,
    );
    await set('migration.mode', null, { host: 'host-a' });
    await set('migration.mode', ['tls'], { host: 'host-c' });
    await refused(order(a, c), /the setting migration\.mode of host-c \(host host-c\) leaves it out/);
    await set('migration.mode', null, { host: 'host-c' });
    const plan = await fleet.client.call(planMigration, { body: order(a, c, 'tls') });
    assert.deepEqual([plan.ready, plan.decision.mode], [false, null]);
    await fleet.client.call(putUnmanagedHost, {
      params: { name: 'host-d' },
      body: { address: '192.0.2.200' },
    });
    await refused({ ...order(c, a), to: 'host-d' }, /neither host-c nor host-d has an agent/);
    await assert.rejects(fleet.client.call(evacuateHost, { params: { name: 'host-c' }, body: {} }), (error) =>
      isTrustError(error, 'host.unmanaged'),
    );
    const forgotten = await cli('host', 'remove', 'host-d', '--yes');
    assert.match(forgotten.stdout, /host-d is forgotten/);
  });

  it('6. migrates by pinned where TLS is off for one of both, and refuses tls', async () => {
    await set('kvm.libvirtd.tls.enabled', false, { host: 'host-b' });
    await refused(order(a, b, 'tls'), /kvm\.libvirtd\.tls\.enabled is off for host-b \(host host-b\)/);
    await reports(b, ({ modes }) => !modes.includes('tls'));
    assertPinned(await migrated(order(a, b)));
    await runsOnlyOn(b);
    assertPinned(await migrated(order(b, a)));
    await runsOnlyOn(a);
    await set('kvm.libvirtd.tls.enabled', null, { host: 'host-b' });
    await reports(b, ({ modes }) => modes.includes('tls'));
    assertTls(await migrated(order(a, b)));
    assertTls(await migrated(order(b, a)));
  });

  it('7. follows migrate_tls_force that somebody sets by hand, on the source, the destination or both', async () => {
    const isForced = (host: Host, wanted: boolean) =>
      until(`hear of ${FORCE} on ${host.name}`, PATIENCE, async () =>
        (await fleet.show(host.name)).observed?.capabilities?.migrateTlsForce === wanted ? true : undefined,
      );
    const force = async (host: Host) => {
      await host.run(['sh', '-c', `printf '${FORCE} = 1\\n' >>${QEMU_CONF} && ${RESTART_LIBVIRTD}`]);
      await isForced(host, true);
    };
    const release = async (host: Host) => {
      await host.run(['sh', '-c', FORCE_MENDED]);
      await isForced(host, false);
    };
    /** One way, in each mode: the plan, the matrix and what is really tried say the same. */
    const allButTls = async (from: Host, to: Host, by: RegExp) => {
      for (const mode of ['pinned', 'plain'] as const) {
        const plan = await fleet.client.call(planMigration, { body: order(from, to, mode) });
        assert.deepEqual([plan.ready, plan.decision.mode], [false, null]);
        assert.match(plan.decision.explanation, by);
        assert.match(plan.decision.hint ?? '', /use mode tls, or take migrate_tls_force out of/);
        await refused(order(from, to, mode), by);
      }
      const plan = await fleet.client.call(planMigration, { body: order(from, to) });
      const isThere = (await runningVms(from)).includes('guest');
      assert.deepEqual([plan.ready, plan.decision.mode], [isThere, 'tls'], plan.decision.explanation);
      assert.equal((await cell(from, to)).mode, 'tls');
    };
    const cell = async (from: Host, to: Host) => {
      const { pairs } = await fleet.client.call(getMigrationMatrix, { query: {} });
      const found = pairs.find((pair) => pair.from === from.name && pair.to === to.name);
      assert.ok(found, JSON.stringify(pairs).slice(0, 500));
      return found;
    };
    await force(a);
    await allButTls(a, b, /QEMU of host-a refuses migrations without native TLS/);
    await allButTls(b, a, /QEMU of host-a refuses migrations without native TLS/);
    await refused(order(a, c), /plain: QEMU of host-a refuses migrations without native TLS/);
    assert.equal((await cell(a, c)).mode, null);
    await set('migration.mode', ['pinned', 'plain']);
    assert.match((await cell(a, b)).detail, /pinned: QEMU of host-a refuses migrations without native TLS/);
    await refused(order(a, b), /pinned: QEMU of host-a refuses/);
    await set('migration.mode', null);
    assertTls(await migrated(order(a, b)));
    assertTls(await migrated(order(b, a)));
    await force(b);
    await allButTls(a, b, /QEMU of host-a refuses .*QEMU of host-b refuses/);
    assertTls(await migrated(order(a, b)));
    assertTls(await migrated(order(b, a)));
    await release(a);
    await allButTls(a, b, /QEMU of host-b refuses migrations without native TLS/);
    // Set since libvirtd was started: not in force, so mode pinned goes on, with a word on what is to come.
    await a.run(['sh', '-c', `printf '${FORCE} = 1\\n' >>${QEMU_CONF}`]);
    await release(b);
    const plan = await fleet.client.call(planMigration, { body: order(a, b, 'pinned') });
    assert.deepEqual([plan.ready, plan.decision.mode], [true, 'pinned']);
    const said = plan.findings.find(({ code }) => code === 'tls.forced');
    assert.equal(said?.severity, 'warning', JSON.stringify(plan.findings));
    assertPinned(await migrated(order(a, b, 'pinned')));
    await release(a);
    assertPinned(await migrated(order(b, a, 'pinned')));
  });

  it('7a. follows where libvirt listens: nowhere, on loopback alone, elsewhere than it would be reached', async () => {
    const listen = (...addresses: string[]) =>
      b.run([
        'sh',
        '-c',
        `mkdir -p ${OTHER_ADDRESSES} && printf '[Socket]\\nListenStream=\\n${addresses.map((one) => `ListenStream=${one}:16514\\n`).join('')}FreeBind=yes\\n' >${OTHER_ADDRESSES}/test.conf; ${RESTART_WITH_SOCKETS}`,
      ]);
    const listens = (wanted: string | null) =>
      until(`hear where libvirt of host-b listens`, PATIENCE, async () => {
        const { observed } = await fleet.show('host-b');
        return (observed?.capabilities?.libvirtTls?.addresses.join() ?? null) === wanted ? true : undefined;
      });
    const fallsBack = async (why: RegExp) => {
      const plan = await fleet.client.call(planMigration, { body: order(a, b) });
      assert.deepEqual([plan.ready, plan.decision.mode], [true, 'pinned'], plan.decision.explanation);
      assert.match(plan.decision.explanation, why);
      const { pairs } = await fleet.client.call(getMigrationMatrix, { query: {} });
      const pair = pairs.find(({ from, to }) => from === 'host-a' && to === 'host-b');
      assert.equal(pair?.mode, 'pinned', JSON.stringify(pair));
      await refused(order(a, b, 'tls'), why);
    };
    const before = (await fleet.show('host-b')).observed?.capabilities?.libvirtTls?.addresses.join() ?? '';
    await listen('127.0.0.1');
    await listens('127.0.0.1');
    await fallsBack(/tls: libvirt of host-b does not listen with TLS/);
    await listen('192.0.2.99');
    await listens('192.0.2.99');
    await fallsBack(/tls: libvirt of host-b listens with TLS on 192\.0\.2\.99 alone, not on /);
    assertPinned(await migrated(order(a, b)));
    // Back, libvirt of host-a is reached, which listens everywhere.
    assertTls(await migrated(order(b, a)));
    await b.run(['sh', '-c', LISTENING_MENDED]);
    await listens(before);
    assertTls(await migrated(order(a, b)));
    assertTls(await migrated(order(b, a)));
  });

  it('8. counts a host as not secured that has not reported what it can do', async () => {
    await b.run(['systemctl', 'stop', 'virt-trust-agent.service']);
    await fleet.stopManager();
    forgetReport(join(fleet.stateDirectory, 'manager', 'manager.db'), 'host-b');
    await fleet.startManager();
    await refused(order(a, b), /host-b has not reported what it can do, so it counts as not secured/);
    await refused(order(b, a), /host-b has not reported/);
    await b.run(['systemctl', 'start', 'virt-trust-agent.service']);
    await heardFrom(fleet, 'host-a', 'host-b');
    await reports(b, ({ modes }) => modes.includes('tls'));
    assertTls(await migrated(order(a, b)));
    assertTls(await migrated(order(b, a)));
  });

  it('9. uses what an agent tells that only looks, and has the other one conduct', async () => {
    assert.equal((await cli('host', 'remove', 'host-c', '--yes')).code, 0);
    await fleet.add('host-c', { observe: true });
    await reports(c, ({ reported }) => reported);
    await refused(order(a, c, 'pinned'), /the agent on host-c only looks/);
    const there = await migrated(order(a, c));
    assertPlain(there.wires);
    assert.deepEqual([there.result.plan?.decision.mode, there.result.warnings.length], ['plain', 1]);
    await runsOnlyOn(c);
    const back = await migrated(order(c, a));
    assertPlain(back.wires);
    assert.equal(back.result.plan?.decision.conductor, 'destination');
    await runsOnlyOn(a);
    await c.run(['systemctl', 'stop', 'libvirtd-tcp.socket', 'libvirtd.service']);
    await c.run(['systemctl', 'start', 'libvirtd.service']);
    await until('hear that host-c listens no more', PATIENCE, async () =>
      (await fleet.show('host-c')).observed?.capabilities?.libvirtTcp === null ? true : undefined,
    );
    await refused(order(a, c), /libvirt of host-c does not listen for plain TCP/);
  });

  it('10. empties a host from the command line, and says where each VM is', async () => {
    await startVm(a, { name: 'second' });
    const said = await cli('migrate', '--all', '--from', 'host-a', '--concurrency', '2');
    assert.equal(said.code, 0, said.stderr);
    assert.match(said.stdout, /host-a is empty: guest, second on host-b/);
    assert.match(said.stderr, /✔ Migrate guest to host-b/);
    assert.deepEqual(new Set(await runningVms(b)), new Set(['guest', 'second']));
    await b.run(['virsh', 'destroy', 'second']);
    const back = await cli(
      'migrate',
      '--all',
      '--from',
      'host-b',
      '--to',
      'host-a',
      '--mode',
      'pinned',
      '--json',
    );
    assert.equal(back.code, 0, back.stderr);
    assert.equal((JSON.parse(back.stdout) as Job).state, 'done');
    await runsOnlyOn(a);
  });

  it('11. says of wrong words what is wrong with them', async () => {
    const wrong = async (code: number, said: RegExp, ...words: string[]) => {
      const { code: got, stderr } = await cli('migrate', ...words);
      assert.match(stderr, said);
      assert.equal(got, code, stderr);
    };
    await wrong(2, /--from and --to are both host-a/, 'guest', '--from', 'host-a', '--to', 'host-a');
    await wrong(2, /--to is missing/, 'guest', '--from', 'host-a');
    await wrong(2, /of tls, pinned, plain, each once/, 'guest', '--from', 'host-a', '--mode', 'ssl');
    await wrong(3, /cannot find host nowhere/, 'guest', '--from', 'host-a', '--to', 'nowhere');
    await wrong(
      2,
      /--post-copy and --parallel 2/,
      'guest',
      '--from',
      'host-a',
      '--to',
      'host-b',
      '--post-copy',
      '--parallel',
      '2',
    );
    await wrong(
      4,
      /tls: the agent on host-c only looks/,
      'guest',
      '--from',
      'host-a',
      '--to',
      'host-c',
      '--mode',
      'tls',
    );
    await wrong(3, /nobody|no .*VM|not found|no domain/i, 'nobody', '--from', 'host-a', '--to', 'host-b');
    await runsOnlyOn(a);
  });

  it('12. leaves no permission and no socket behind on any host', async () => {
    await nothingLeft(a, b);
  });
});

/** As a host is known whose agent has never said what it can do. */
function forgetReport(path: string, host: string): void {
  const database = new DatabaseSync(path);
  try {
    database
      .prepare(
        "update hosts set document = json_set(document, '$.observed.capabilities', json('null')) where name = ?",
      )
      .run(host);
  } finally {
    database.close();
  }
}
