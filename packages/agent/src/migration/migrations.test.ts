import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError } from '@virt-trust/base/error.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import { PEER_PORT } from '@virt-trust/contract/model/grant.ts';
import type { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import { issue, makeAuthority, type TestAuthority } from '../apply/fixtures.ts';
import { ConductFiles } from '../conduct/files.ts';
import { orderOf as plainOrder } from '../conduct/fixtures.ts';
import { crlOf } from '../crl/fixtures.ts';
import { crlDocument } from '../crl/record.ts';
import { verifyDelivery } from '../crl/verify.ts';
import { Firewall } from '../firewall/firewall.ts';
import { keysOf } from '../fixtures.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { Migrations } from '../ports/migrations.ts';
import type { OwnProcesses } from '../state/own-processes.ts';
import { type AgentPaths, agentPaths } from '../state/paths.ts';
import { makeMigrations } from './migrations.ts';

const UUID = '00cc6257-5d60-4ebb-a478-444f0538f75e';
const JOURNAL = {
  step: 'perform',
  uuid: UUID,
  finishSent: false,
  wasPaused: false,
  isPostCopy: false,
} as const;

/** Stands in for the processes that conduct: they do what the test says. */
class FakeConductors implements OwnProcesses {
  readonly started: string[] = [];
  alive = true;
  #seen = Promise.withResolvers<void>();

  async start(id: string): Promise<void> {
    this.started.push(id);
    this.alive = true;
    this.#seen.resolve();
    this.#seen = Promise.withResolvers();
  }

  async isRunning(id: string): Promise<boolean> {
    return this.alive && this.started.includes(id);
  }

  async stop(): Promise<void> {}

  async hasStarted(times: number): Promise<void> {
    while (this.started.length < times) await this.#seen.promise;
  }
}

describe('migrations', () => {
  let root: string;
  let authority: TestAuthority;
  let paths: AgentPaths;
  const open: Migrations[] = [];
  const told: string[] = [];

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'virt-trust-migrations-'));
    authority = await makeAuthority('Control');
    paths = agentPaths(root);
    told.length = 0;
    for (const directory of [paths.agent, paths.migrations]) await mkdir(directory, { recursive: true });
  });
  afterEach(async () => {
    for (const migrations of open.splice(0)) await migrations.close();
    await rm(root, { recursive: true, force: true });
  });

  async function made(
    conductors: OwnProcesses,
    grant?: Grant,
    record: AgentContext['record'] = async (kind) => void told.push(kind),
  ): Promise<Migrations> {
    const run = () => Promise.reject(new Error('not asked for'));
    const context: AgentContext = {
      paths,
      mode: 'manage',
      run,
      firewall: new Firewall(paths, run),
      clock: systemClock,
      randomness: systemRandomness,
      log: silentLog,
      keys: keysOf(),
      record,
      inventory: () => Promise.reject(new Error('not asked for')),
    };
    const migrations = await makeMigrations(context, {
      conductors,
      vms: {
        prepared: async () => ({
          uuid: UUID,
          xmlSha256: '0'.repeat(64),
          persistentXmlSha256: null,
          copiedDisks: [],
        }),
        list: async () => [],
        state: async (uuid) => (uuid === UUID ? { state: 'paused', reason: 'migrating' } : null),
      },
      findGrant: (id) => (grant?.id === id ? grant : undefined),
      qemuUser: async () => ({ uid: 64055, gid: 103 }),
    });
    open.push(migrations);
    return migrations;
  }

  const orderOf = (vm = 'vm'): MigrationOrder =>
    plainOrder({
      id: randomUUID(),
      vm,
      mode: 'tls',
      destination: { kind: 'tls', address: '192.0.2.2', port: 16514 },
      tls: {
        migrationSerialNumber: '0badc0de',
        controlCrl: null,
        controlBundle: authority.pem,
        subject: { commonName: 'virt-trust migration 1', organization: 'Example' },
      },
    });

  async function begun(conductors: FakeConductors, order = orderOf()) {
    const migrations = await made(conductors);
    const { csr } = await migrations.create(order);
    const status = await migrations.start(order.id, issue(authority, { csr: csr ?? '' }));
    assert.equal(status.phase, 'running');
    return { migrations, order };
  }

  /** What the process tells. */
  async function tell(order: MigrationOrder, change: Partial<MigrationStatus>): Promise<void> {
    const status: MigrationStatus = {
      id: order.id,
      vm: order.vm,
      mode: order.mode,
      phase: 'running',
      step: 'perform',
      runsOn: null,
      progress: null,
      proof: null,
      error: null,
      ...change,
    };
    await new ConductFiles(paths, order.id).writeReport({ status, journal: JOURNAL });
  }

  async function ended(migrations: Migrations, id: string) {
    const signal = new AbortController().signal;
    for (;;) {
      const status = await migrations.get(id, 30_000, signal);
      if (status.phase !== 'running') return status;
    }
  }

  it('makes a key that only root reads, starts a process, and destroys the key at the end', async () => {
    const conductors = new FakeConductors();
    const { migrations, order } = await begun(conductors);
    const key = join(paths.migrations, order.id, 'clientkey.pem');
    assert.equal((await stat(key)).mode & 0o777, 0o600);
    assert.equal((await stat(join(paths.migrations, order.id))).mode & 0o777, 0o700);
    assert.deepEqual(conductors.started, [order.id]);
    const proof = { tlsCreds: 'objlibvirt_migrate_tls0', tlsHostname: '192.0.2.2' };
    await tell(order, { phase: 'done', step: null, runsOn: 'destination', proof });
    const status = await ended(migrations, order.id);
    assert.deepEqual([status.phase, status.runsOn, status.proof], ['done', 'destination', proof]);
    await migrations.close();
    await assert.rejects(access(key));
    assert.deepEqual(await readdir(paths.migrations), []);
    assert.deepEqual(told, ['migration.started', 'migration.done']);
  });

  it('tells of an end only once nothing of it is left and its event is written', async () => {
    const [reached, gate] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const migrations = await made(new FakeConductors(), undefined, async (kind) => {
      reached.resolve();
      await gate.promise;
      told.push(kind);
    });
    const order = orderOf();
    await migrations.create(order);
    const cancelling = migrations.cancel(order.id);
    await reached.promise;
    const answer = migrations.get(order.id, 0, new AbortController().signal).then(({ phase }) => {
      return [phase, ...told];
    });
    // More than the reading of a record takes.
    for (let look = 0; look < 10; look++) await readdir(paths.agent);
    gate.resolve();
    assert.deepEqual(await answer, ['cancelled', 'migration.cancelled']);
    await cancelling;
  });

  it('tells of progress and phases as the process does', async () => {
    const { migrations, order } = await begun(new FakeConductors());
    await tell(order, { step: 'finish' });
    const seen = await migrations.get(order.id, 30_000, new AbortController().signal);
    assert.deepEqual([seen.phase, seen.step], ['running', 'finish']);
  });

  it("gives the process's error in full", async () => {
    const { migrations, order } = await begun(new FakeConductors());
    const error = { message: 'first\nsecond', hint: 'do this' };
    await tell(order, { phase: 'operator-needed', step: 'finish', runsOn: 'unknown', error });
    const status = await ended(migrations, order.id);
    assert.deepEqual([status.phase, status.error], ['operator-needed', error]);
    await migrations.close();
    assert.ok(told.includes('migration.operator_needed'));
  });

  it('has a process that died followed by another', async () => {
    const conductors = new FakeConductors();
    const { order } = await begun(conductors);
    await tell(order, {});
    conductors.alive = false;
    await conductors.hasStarted(2);
    assert.deepEqual(conductors.started, [order.id, order.id]);
  });

  it('goes on watching what goes on when the agent is started again', async () => {
    const conductors = new FakeConductors();
    const { migrations: before, order } = await begun(conductors);
    await before.close();
    const migrations = await made(conductors);
    await tell(order, { phase: 'done', step: null, runsOn: 'destination' });
    assert.equal((await ended(migrations, order.id)).phase, 'done');
    await migrations.close();
    assert.deepEqual(conductors.started, [order.id]);
    assert.deepEqual(await readdir(paths.migrations), []);
  });

  it('has it found out after the host was started anew what became of a migration', async () => {
    const conductors = new FakeConductors();
    const { migrations: before, order } = await begun(conductors);
    await tell(order, { step: 'finish' });
    await before.get(order.id, 30_000, new AbortController().signal);
    await before.close();
    await rm(paths.migrations, { recursive: true });
    const fresh = new FakeConductors();
    await made(fresh);
    await fresh.hasStarted(1);
    const report = await new ConductFiles(paths, order.id).readReport();
    assert.deepEqual(report?.journal, { ...JOURNAL, step: 'finish', finishSent: true });
  });

  it('gives the CRL to the client that judges the destination, and refuses to start where one came since', async () => {
    const migrations = await made(new FakeConductors());
    const controlCrl = crlOf(authority, 1);
    const plain = orderOf();
    const order = { ...plain, tls: plain.tls === null ? null : { ...plain.tls, controlCrl } };
    const { csr } = await migrations.create(order);
    const directory = join(paths.migrations, order.id);
    assert.equal(await readFile(join(directory, 'cacrl.pem'), 'utf8'), controlCrl);
    const serials = ['0badc0de'];
    const migration = { purpose: 'migration', crl: crlOf(authority, 2, { serials }) } as const;
    const { installed, issuerPin, pem } = verifyDelivery(
      migration,
      authority.pem,
      undefined,
      systemClock.now(),
    );
    const whole = { ...installed, installedAt: 0, failure: null };
    await crlDocument(paths).write({
      crls: [{ installed: whole, issuerPin, pem, pending: [], said: 'nothing' }],
    });
    const refused = { code: 'migration.destination_revoked' };
    await assert.rejects(migrations.create(orderOf('b')), refused);
    await assert.rejects(migrations.start(order.id, issue(authority, { csr: csr ?? '' })), refused);
    assert.deepEqual(await readdir(paths.migrations), []);
  });

  it('takes no certificate of another key', async () => {
    const migrations = await made(new FakeConductors());
    const [first, second] = [orderOf('a'), orderOf('b')];
    await migrations.create(first);
    const { csr } = await migrations.create(second);
    await assert.rejects(migrations.start(first.id, issue(authority, { csr: csr ?? '' })), (error) =>
      isTrustError(error, 'certificate.unexpected'),
    );
  });

  it('makes no key where no TLS of libvirt is used', async () => {
    const migrations = await made(new FakeConductors());
    const order = plainOrder({ id: randomUUID() });
    assert.equal((await migrations.create(order)).csr, null);
    assert.equal((await migrations.start(order.id, null)).phase, 'running');
    assert.ok(!(await readdir(join(paths.migrations, order.id))).includes('clientkey.pem'));
  });

  it('SECURITY: tells of each VM that it sent in the clear, whatever became of it', async () => {
    const done = { phase: 'done', step: null, runsOn: 'destination' } as const;
    const broken = { phase: 'failed', step: 'perform', runsOn: 'source', error: null } as const;
    const refused = { ...broken, step: 'prepare' } as const;
    for (const [mode, status, kinds] of [
      ['plain', done, ['migration.plain']],
      ['plain', broken, ['migration.plain']],
      ['plain', refused, []],
      ['tls', done, []],
    ] as const) {
      told.length = 0;
      const order = plainOrder({ id: randomUUID(), mode });
      const migrations = await made(new FakeConductors());
      await migrations.create(order);
      await migrations.start(order.id, null);
      await tell(order, status);
      await ended(migrations, order.id);
      await migrations.close();
      assert.deepEqual(told, ['migration.started', ...kinds, `migration.${status.phase}`]);
    }
  });

  it("starts nothing with another host's agent unless a grant says so, and gives the grant to the process", async () => {
    const order = plainOrder({ id: randomUUID(), mode: 'pinned', stream: null, peerAgent: true });
    const grant: Grant = {
      id: order.id,
      role: 'source',
      mode: 'pinned',
      operations: ['status'],
      peer: {
        name: 'host-b',
        pins: [`sha256:${'A'.repeat(43)}`],
        addresses: ['192.0.2.2'],
        reachedAt: ['192.0.2.2'],
        port: PEER_PORT,
      },
      vm: null,
      flags: 1,
      streams: 2,
      notAfter: 1,
    } as Grant;
    const without = await made(new FakeConductors());
    await without.create(order);
    await assert.rejects(without.start(order.id, null), { code: 'migration.no_grant' });
    const migrations = await made(new FakeConductors(), grant);
    await migrations.start(order.id, null);
    const commission = await new ConductFiles(paths, order.id).readCommission();
    assert.deepEqual(commission?.grant, grant);
    assert.deepEqual(commission?.qemu, { uid: 64055, gid: 103 });
  });

  it('asks the process to cancel, and cancels by itself what was not started', async () => {
    const { migrations, order } = await begun(new FakeConductors());
    await migrations.cancel(order.id);
    assert.ok(await new ConductFiles(paths, order.id).isCancelRequested());
    await tell(order, { phase: 'cancelled', runsOn: 'source' });
    assert.equal((await ended(migrations, order.id)).phase, 'cancelled');
    const other = orderOf('other');
    await migrations.create(other);
    assert.equal((await migrations.cancel(other.id)).phase, 'cancelled');
  });

  it('starts one of two migrations of a VM that were prepared at the same time', async () => {
    const conductors = new FakeConductors();
    const migrations = await made(conductors);
    const orders = [plainOrder({ id: randomUUID() }), plainOrder({ id: randomUUID() })];
    for (const order of orders) await migrations.create(order);
    const starts = await Promise.allSettled(orders.map(({ id }) => migrations.start(id, null)));
    const refused = starts.flatMap((start) => (start.status === 'rejected' ? [start.reason] : []));
    assert.ok(isTrustError(refused[0], 'migration.conflict'));
    assert.match(refused[0].message, /is being migrated already/);
    assert.equal(refused.length, 1);
    assert.equal(conductors.started.length, 1);
    for (const { id } of orders)
      if (!conductors.started.includes(id))
        await assert.rejects(migrations.start(id, null), { code: 'migration.conflict' });
  });

  it('refuses a second migration of a VM, and more than it carries at once', async () => {
    const { migrations } = await begun(new FakeConductors());
    await assert.rejects(migrations.create(orderOf()), (error) => isTrustError(error, 'migration.conflict'));
    for (let number = 1; number < 8; number++) await migrations.create(orderOf(`vm${number}`));
    await assert.rejects(migrations.create(orderOf('more')), (error) =>
      isTrustError(error, 'migration.conflict'),
    );
  });
});
