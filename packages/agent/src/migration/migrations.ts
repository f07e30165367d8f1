import { describeError, TrustError } from '@virt-trust/base/error.ts';
import { HOUR } from '@virt-trust/base/instant.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type {
  MigrationOrder,
  MigrationStatus,
  MigrationStep,
  PreparedVm,
} from '@virt-trust/contract/model/migration.ts';
import { parseCertificates } from '@virt-trust/pki/certificate.ts';
import {
  encodePrivateKeyPem,
  generatePrivateKey,
  keyMatchesCertificate,
  parsePrivateKeyPem,
} from '@virt-trust/pki/key.ts';
import { encodeName } from '@virt-trust/pki/name.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { createCertificationRequest } from '@virt-trust/pki/request.ts';
import { hintFor } from '../conduct/hints.ts';
import type { AgentContext } from '../ports/agent-context.ts';
import type { Migrations } from '../ports/migrations.ts';
import type { OwnProcesses } from '../state/own-processes.ts';
import { controlCrlOf, refuseRevokedDestination } from './revocation.ts';
import { type MigrationRecord, MigrationStore } from './store.ts';
import type { VmView } from './vm-view.ts';

/** Migrations under way at once; more would only share the same wire. */
const LIMIT = 8;
/** How long an ended migration can be asked about, and a prepared one waits for its certificate. */
const KEEP_MS = 24 * HOUR;
const LOOK_MS = 200;
/** Looks between two at the process itself. */
const ALIVE_LOOKS = 10;
/** In which the VM's memory and disks go, or have gone. */
const SENT_FROM: ReadonlySet<MigrationStep> = new Set(['perform', 'finish', 'confirm']);

/** What migrations are carried out with. */
export interface MigrationParts {
  readonly conductors: OwnProcesses;
  /** Looks at VMs, here or where the order says that the source is. */
  readonly vms: VmView;
  readonly findGrant: (id: string) => Grant | undefined;
  readonly qemuUser: () => Promise<{ readonly uid: number; readonly gid: number }>;
}

/** Makes what has migrations conducted from this host; those that go on from before the agent's end are watched again. */
export async function makeMigrations(context: AgentContext, parts: MigrationParts): Promise<Migrations> {
  const migrations = new HostMigrations(context, parts);
  await migrations.resume();
  return migrations;
}

class HostMigrations implements Migrations {
  readonly #context: AgentContext;
  readonly #parts: MigrationParts;
  readonly #store: MigrationStore;
  readonly #watched = new Map<string, Promise<void>>();
  /** VMs of which a migration is being started. */
  readonly #starting = new Set<string>();
  /** Ends that are on disk already, while what is left of the migration is taken away: nobody is told before. */
  readonly #ending = new Map<string, Promise<void>>();
  #changed = Promise.withResolvers<void>();
  #closed = false;

  constructor(context: AgentContext, parts: MigrationParts) {
    this.#context = context;
    this.#parts = parts;
    this.#store = new MigrationStore(context.paths);
  }

  async resume(): Promise<void> {
    for (const record of await this.#store.list()) {
      const { status } = record;
      const old = this.#context.clock.now() - record.createdAt > KEEP_MS;
      if (status.phase === 'running') this.#watch(status.id);
      else if (old) await this.#store.forget(status.id);
      else if (status.phase !== 'requested') await this.#store.files(status.id).destroy();
    }
  }

  async create(order: MigrationOrder): Promise<{ csr: string | null; vm: PreparedVm }> {
    const known = await this.#store.read(order.id);
    if (known !== undefined && JSON.stringify(known.order) !== JSON.stringify(order))
      throw conflict(order.id, 'another order has this identifier');
    if (known !== undefined && known.status.phase !== 'requested')
      throw conflict(order.id, `it is ${known.status.phase} already`);
    await this.#refuseTooMany(order);
    await this.#refuseRevoked(order);
    const vm = await this.#parts.vms.prepared(order);
    const csr = await this.#request(order);
    const { id, mode } = order;
    const status: MigrationStatus = {
      id,
      vm: order.vm,
      mode,
      phase: 'requested',
      step: null,
      runsOn: null,
      progress: null,
      proof: null,
      error: null,
    };
    await this.#store.write({ order, vm, status, createdAt: this.#context.clock.now() });
    return { csr, vm };
  }

  /** The request for the client certificate of this migration; null where it goes without. */
  async #request(order: MigrationOrder): Promise<string | null> {
    const { tls } = order;
    if (tls === null) return null;
    const files = this.#store.files(order.id);
    const controlCrl = await controlCrlOf(this.#context.paths, tls);
    const stored = await files.readClientFile('clientKey');
    const privateKey =
      stored === undefined ? await generatePrivateKey('ecdsa-p256-sha256') : parsePrivateKeyPem(stored);
    const { organization, commonName } = tls.subject;
    const der = createCertificationRequest({
      privateKey,
      subject: encodeName({ organization, commonName }),
      sans: [],
    });
    await files.putClientFile('clientKey', encodePrivateKeyPem(privateKey));
    await files.putClientFile('caCertificate', tls.controlBundle);
    if (controlCrl !== undefined) await files.putClientFile('crl', controlCrl);
    return encodePem('CERTIFICATE REQUEST', der);
  }

  async start(id: string, certificate: string | null): Promise<MigrationStatus> {
    const { order } = await this.#find(id);
    // Several managers may have prepared a migration of the same VM.
    if (this.#starting.has(order.vm)) throw alreadyMigrated(order);
    this.#starting.add(order.vm);
    try {
      return await this.#start(id, certificate);
    } finally {
      this.#starting.delete(order.vm);
    }
  }

  async #start(id: string, certificate: string | null): Promise<MigrationStatus> {
    const record = await this.#find(id);
    const { order } = record;
    if (record.status.phase !== 'requested') return record.status;
    refuseTwice(order, await this.#store.list());
    const files = this.#store.files(id);
    if (order.tls !== null) {
      const key = await files.readClientFile('clientKey');
      if (key === undefined)
        return await this.#end(record, {
          ...record.status,
          ...failure('the key of this migration is gone: the host was restarted'),
        });
      const [leaf] = certificate === null ? [] : parseCertificates(certificate);
      if (leaf === undefined || !keyMatchesCertificate(parsePrivateKeyPem(key), leaf)) {
        throw new TrustError(
          'certificate.unexpected',
          'invalid',
          `cannot start migration ${id}: the certificate is for another key`,
        );
      }
    }
    // A CRL may have come since.
    try {
      await this.#refuseRevoked(order);
    } catch (error) {
      await this.#end(record, { ...record.status, ...failure(describeError(error)) });
      throw error;
    }
    const grant = this.#parts.findGrant(id) ?? null;
    if (order.peerAgent && grant === null)
      throw new TrustError(
        'migration.no_grant',
        'denied',
        `cannot start migration ${id}: no grant of that id is here`,
      );
    if (certificate !== null) await files.putClientFile('clientCertificate', certificate);
    const qemu = order.mode === 'pinned' ? await this.#parts.qemuUser() : null;
    await files.writeCommission({ order, grant, qemu });
    const begun = await this.#change(record, { ...record.status, phase: 'running' });
    await this.#context.record('migration.started', order.vm, `to ${order.to}, mode ${order.mode}`);
    await this.#parts.conductors.start(id);
    this.#watch(id);
    return begun.status;
  }

  async get(id: string, waitMs: number, signal: AbortSignal): Promise<MigrationStatus> {
    const before = await this.#told(id);
    if (waitMs <= 0 || !this.#watched.has(id)) return before;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(waitMs)]);
    const ended = new Promise<void>((resolve) =>
      limit.addEventListener('abort', () => resolve(), { once: true }),
    );
    for (;;) {
      const changed = this.#changed.promise;
      const status = await this.#told(id);
      const isOver = limit.aborted || this.#closed || !this.#watched.has(id);
      if (isOver || JSON.stringify(status) !== JSON.stringify(before)) return status;
      await Promise.race([changed, ended]);
    }
  }

  async cancel(id: string): Promise<MigrationStatus> {
    const record = await this.#find(id);
    if (record.status.phase === 'requested')
      return await this.#end(record, { ...record.status, phase: 'cancelled', runsOn: 'source' });
    if (record.status.phase === 'running') await this.#store.files(id).requestCancel();
    return (await this.#find(id)).status;
  }

  async list(address: string | undefined) {
    return { vms: await this.#parts.vms.list(address) };
  }

  async vmState({ id, vm }: Grant) {
    const seen = vm === null ? null : await this.#parts.vms.state(vm.uuid);
    const phase = (await this.#store.read(id))?.status.phase ?? null;
    return { state: seen?.state ?? null, reason: seen?.reason ?? '', phase };
  }

  async close(): Promise<void> {
    // Conductors are processes of their own and carry on; the next start watches them again.
    this.#closed = true;
    this.#wake();
    await Promise.all(this.#watched.values());
  }

  #watch(id: string): void {
    if (this.#watched.has(id)) return;
    const watching = this.#follow(id)
      .catch((error) => this.#context.log.error({ id, reason: describeError(error) }, 'migration lost'))
      .finally(() => {
        this.#watched.delete(id);
        this.#wake();
      });
    this.#watched.set(id, watching);
  }

  /** Takes over what the conductor tells until it says how it ended; a conductor that died gets a successor. */
  async #follow(id: string): Promise<void> {
    const files = this.#store.files(id);
    let seen = '';
    for (let look = 0; !this.#closed; look++) {
      const version = await files.reportVersion();
      const isAliveLook = look % ALIVE_LOOKS === 0;
      if (isAliveLook || version !== seen) {
        const record = await this.#find(id);
        const report = await files.readReport();
        if (report !== undefined && report.status.phase !== 'running') {
          await this.#end(record, report.status);
          return;
        }
        if (report !== undefined && JSON.stringify(report.status) !== JSON.stringify(record.status))
          await this.#change(record, report.status);
        if (isAliveLook) await this.#keepAlive(record);
      }
      seen = version;
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  async #keepAlive({ order, status }: MigrationRecord): Promise<void> {
    const { conductors, findGrant } = this.#parts;
    if (await conductors.isRunning(order.id)) return;
    const files = this.#store.files(order.id);
    // It may have ended between the two looks.
    const report = await files.readReport();
    if (report !== undefined && report.status.phase !== 'running') return;
    if ((await files.readCommission()) === undefined) {
      // The host was started anew: of the migration only this record is left.
      await files.writeCommission({ order, grant: findGrant(order.id) ?? null, qemu: null });
      const { uuid } = (await this.#find(order.id)).vm;
      const journal = {
        step: status.step ?? 'connect',
        uuid,
        finishSent: status.step === 'finish' || status.step === 'confirm',
        wasPaused: false,
        isPostCopy: false,
      };
      await files.writeReport({ status, journal });
    }
    this.#context.log.warn(
      { id: order.id },
      'the process that conducts a migration is gone; another goes on',
    );
    await conductors.start(order.id);
  }

  async #end(record: MigrationRecord, status: MigrationStatus): Promise<MigrationStatus> {
    const { id } = status;
    const ending = this.#conclude(record, status).finally(() => this.#ending.delete(id));
    this.#ending.set(
      id,
      ending.catch(() => {}),
    );
    await ending;
    this.#wake();
    return status;
  }

  async #conclude({ order, ...record }: MigrationRecord, status: MigrationStatus): Promise<void> {
    await this.#store.write({ order, ...record, status });
    await this.#store.files(status.id).destroy();
    const { phase, error } = status;
    const kind = phase.replace('-', '_');
    if (wentInTheClear(order, status))
      await this.#context.record('migration.plain', order.vm, `to ${order.to} in the clear`);
    await this.#context.record(`migration.${kind}`, order.vm, error?.message ?? phase);
  }

  /** The status of a migration: an end only once nothing of it is left, and its event is written. */
  async #told(id: string): Promise<MigrationStatus> {
    const { status } = await this.#find(id);
    await this.#ending.get(id);
    return status;
  }

  async #change(record: MigrationRecord, status: MigrationStatus): Promise<MigrationRecord> {
    const changed = { ...record, status };
    await this.#store.write(changed);
    this.#wake();
    return changed;
  }

  #wake(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async #find(id: string): Promise<MigrationRecord> {
    const record = await this.#store.read(id);
    if (record !== undefined) return record;
    throw new TrustError('migration.unknown', 'not-found', `cannot find migration ${id}: there is none`);
  }

  async #refuseRevoked(order: MigrationOrder): Promise<void> {
    try {
      await refuseRevokedDestination(this.#context.paths, order);
    } catch (error) {
      await this.#context.record('migration.refused', order.vm, describeError(error));
      throw error;
    }
  }

  async #refuseTooMany(order: MigrationOrder): Promise<void> {
    const records = await this.#store.list();
    const open = records.filter(
      ({ status, createdAt }) =>
        status.id !== order.id &&
        (status.phase === 'running' ||
          (status.phase === 'requested' && this.#context.clock.now() - createdAt < KEEP_MS / 24)),
    );
    refuseTwice(order, records);
    if (open.length >= LIMIT)
      throw conflict(order.id, `${open.length} migrations are under way on this host`);
  }
}

/** Whether anything of the VM was sent where others on the way could read it. */
function wentInTheClear({ mode }: MigrationOrder, { phase, step }: MigrationStatus): boolean {
  return mode === 'plain' && (phase === 'done' || (step !== null && SENT_FROM.has(step)));
}

function failure(message: string): Pick<MigrationStatus, 'phase' | 'runsOn' | 'error'> {
  return { phase: 'failed', runsOn: 'source', error: { message, hint: hintFor(message) } };
}

function refuseTwice(order: MigrationOrder, records: readonly MigrationRecord[]): void {
  const running = records.filter(({ status }) => status.phase === 'running' && status.id !== order.id);
  if (running.some(({ status }) => status.vm === order.vm)) throw alreadyMigrated(order);
}

function alreadyMigrated({ id, vm }: MigrationOrder): TrustError {
  return conflict(
    id,
    `${vm} is being migrated already`,
    'Wait until that migration is over, or cancel it where it was asked for: another manager may have begun it.',
  );
}

function conflict(id: string, reason: string, hint?: string): TrustError {
  return new TrustError(
    'migration.conflict',
    'conflict',
    `cannot prepare migration ${id}: ${reason}`,
    hint === undefined ? {} : { hint },
  );
}
