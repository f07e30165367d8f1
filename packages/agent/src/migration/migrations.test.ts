import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { access, mkdir, mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { systemClock } from '@virt-trust/base/clock.ts';
import { isTrustError, TrustError } from '@virt-trust/base/error.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import type { RunHostCommand } from '@virt-trust/check/host/host-command.ts';
import type { MigrationOrder } from '@virt-trust/contract/model/migration.ts';
import { issue, makeAuthority, type TestAuthority } from '../apply/fixtures.ts';
import { crlOf } from '../crl/fixtures.ts';
import { crlDocument } from '../crl/record.ts';
import { verifyDelivery } from '../crl/verify.ts';
import { Firewall } from '../firewall/firewall.ts';
import { keysOf } from '../fixtures.ts';
import { agentPaths } from '../paths.ts';
import type { AgentContext, Migrations } from '../ports.ts';
import { makeMigrations } from './migrations.ts';

const TLS = '{"return":{"tls-creds":"objlibvirt_migrate_tls0","tls-hostname":"192.0.2.2"}}';
const IDLE = 'Job type:         None\n';
const JOB = 'Job type:         Unbounded\nData remaining: 1.000 MiB\nData total: 4.000 MiB\n';

/** Stands in for virsh: the migration ends when the test says so. */
class FakeVirsh {
  readonly commands: string[][] = [];
  readonly migration = Promise.withResolvers<void>();
  job = JOB;
  domains = 'vm\n';
  #seen = Promise.withResolvers<void>();

  /** Resolves once a command of that name was run. */
  async ran(name: string): Promise<void> {
    while (!this.commands.some((args) => args.includes(name))) await this.#seen.promise;
  }

  readonly run: RunHostCommand = async (_program, args, options) => {
    this.commands.push([...args]);
    this.#seen.resolve();
    this.#seen = Promise.withResolvers();
    const ended = new Promise<never>((_, reject) =>
      options?.signal?.addEventListener('abort', () => reject(options.signal?.reason), { once: true }),
    );
    if (args.includes('migrate')) await Promise.race([this.migration.promise, ended]);
    return answerOf(args, this);
  };
}

function answerOf(args: readonly string[], virsh: FakeVirsh): Awaited<ReturnType<RunHostCommand>> {
  const stdout = args.includes('dst')
    ? '0 0 192.0.2.1:40000 192.0.2.2:49152\n'
    : args.includes('addr')
      ? '[{},{"ifname":"eth1","flags":["UP"],"addr_info":[]}]'
      : answerOfVirsh(args, virsh);
  return { code: 0, stdout, stderr: '' };
}

function answerOfVirsh(args: readonly string[], virsh: FakeVirsh): string {
  return args.includes('domjobinfo')
    ? virsh.job
    : args.includes('qemu-monitor-command')
      ? TLS
      : args.includes('list')
        ? virsh.domains
        : args.includes('domstate')
          ? 'running\n'
          : '';
}

describe('migrations', () => {
  let root: string;
  let authority: TestAuthority;
  const open: Migrations[] = [];

  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'virt-trust-migrations-'));
    authority = await makeAuthority('Control');
  });
  afterEach(async () => {
    for (const migrations of open.splice(0)) await migrations.close();
    await rm(root, { recursive: true, force: true });
  });

  async function made(virsh: FakeVirsh) {
    const paths = agentPaths(root);
    for (const directory of [paths.agent, paths.migrations]) await mkdir(directory, { recursive: true });
    const context: AgentContext = {
      paths,
      mode: 'manage',
      keys: keysOf(),
      run: virsh.run,
      firewall: new Firewall(paths, virsh.run),
      clock: systemClock,
      randomness: systemRandomness,
      log: silentLog,
      record: async () => {},
      inventory: () => Promise.reject(new Error('not asked for')),
    };
    const migrations = await makeMigrations(context);
    open.push(migrations);
    return { migrations, paths };
  }

  const orderOf = (vm = 'vm'): MigrationOrder => ({
    id: randomUUID(),
    vm,
    mode: 'tls',
    from: 'host-a',
    to: 'host-b',
    source: { kind: 'local' },
    destination: { kind: 'tls', address: '192.0.2.2', port: 16514 },
    peerAgent: false,
    stream: { address: '192.0.2.2', listenAddress: null, tlsDestination: null },
    tls: {
      migrationSerialNumber: '0badc0de',
      controlCrl: null,
      controlBundle: authority.pem,
      subject: { commonName: 'virt-trust migration 1', organization: 'Example' },
    },
    options: {
      live: true,
      offline: false,
      persistent: false,
      undefineSource: false,
      copyStorage: 'none',
      copyDisks: [],
      postCopy: false,
      parallel: 0,
      compression: 'none',
      autoConverge: false,
      bandwidthMiB: 0,
      downtimeMs: 0,
      timeoutSeconds: 0,
      timeoutAction: 'abort',
      flags: 0,
    },
    doubtSeconds: 60,
  });

  async function begun(virsh: FakeVirsh, order = orderOf()) {
    const { migrations, paths } = await made(virsh);
    const { csr } = await migrations.create(order);
    const status = await migrations.start(order.id, issue(authority, { csr: csr ?? '' }));
    assert.equal(status.phase, 'running');
    return { migrations, paths, order };
  }

  async function ended(migrations: Migrations, id: string) {
    const signal = new AbortController().signal;
    for (;;) {
      const status = await migrations.get(id, 30_000, signal);
      if (status.phase !== 'running') return status;
    }
  }

  it('makes a key that only root reads, proves TLS, and destroys the key at the end', async () => {
    const virsh = new FakeVirsh();
    const { migrations, paths, order } = await begun(virsh);
    const key = join(paths.migrations, order.id, 'clientkey.pem');
    assert.equal((await stat(key)).mode & 0o777, 0o600);
    await virsh.ran('migrate-setspeed');
    virsh.migration.resolve();
    const status = await ended(migrations, order.id);
    assert.equal(status.phase, 'done');
    assert.deepEqual(status.proof, {
      tlsCreds: 'objlibvirt_migrate_tls0',
      tlsHostname: '192.0.2.2',
      connection: { from: '192.0.2.1', to: '192.0.2.2', interface: 'eth1' },
    });
    await assert.rejects(access(key));
    assert.deepEqual(await readdir(paths.migrations), []);
  });

  it("gives libvirt's error in full with a hint, and destroys the key", async () => {
    const virsh = new FakeVirsh();
    const { migrations, paths, order } = await begun(virsh);
    const stderr =
      'error: internal error: guest CPU does not match\nerror: Unable to read TLS confirmation: EOF\n';
    virsh.migration.reject(new TrustError('command.failed', 'failed', 'x', { context: { stderr } }));
    const status = await ended(migrations, order.id);
    assert.equal(status.phase, 'failed');
    assert.match(status.error?.message ?? '', /guest CPU.*\n.*TLS confirmation/);
    assert.match(status.error?.hint ?? '', /client certificate/);
    assert.deepEqual(await readdir(paths.migrations), []);
  });

  it('gives the CRL to the client that judges the destination, and refuses to start where one came since', async () => {
    const { migrations, paths } = await made(new FakeVirsh());
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
    const { migrations } = await made(new FakeVirsh());
    const [first, second] = [orderOf('a'), orderOf('b')];
    await migrations.create(first);
    const { csr } = await migrations.create(second);
    await assert.rejects(migrations.start(first.id, issue(authority, { csr: csr ?? '' })), (error) =>
      isTrustError(error, 'certificate.unexpected'),
    );
  });

  it('cancels by aborting the job of libvirt', async () => {
    const virsh = new FakeVirsh();
    const { migrations, order } = await begun(virsh);
    await migrations.cancel(order.id);
    await virsh.ran('domjobabort');
    virsh.migration.reject(new Error('operation aborted'));
    assert.equal((await ended(migrations, order.id)).phase, 'cancelled');
  });

  it('refuses a second migration of a VM, and more than it carries at once', async () => {
    const { migrations } = await begun(new FakeVirsh());
    await assert.rejects(migrations.create(orderOf()), (error) => isTrustError(error, 'migration.conflict'));
    for (let number = 1; number < 8; number++) await migrations.create(orderOf(`vm${number}`));
    await assert.rejects(migrations.create(orderOf('more')), (error) =>
      isTrustError(error, 'migration.conflict'),
    );
  });

  for (const [title, domains, phase] of [
    ['says that it failed where the VM still runs here', 'vm\n', 'failed'],
    ['says that it is done where the VM is gone from here', '\n', 'done'],
  ] as const) {
    it(`after a restart in the middle ${title}, and destroys the key`, async () => {
      const { migrations: before, order, paths } = await begun(new FakeVirsh());
      await before.close();
      const virsh = new FakeVirsh();
      virsh.job = IDLE;
      virsh.domains = domains;
      const { migrations } = await made(virsh);
      assert.equal((await ended(migrations, order.id)).phase, phase);
      assert.deepEqual(await readdir(paths.migrations), []);
    });
  }
});
