import { join } from 'node:path';
import { TrustError } from '@virt-trust/base/error.ts';
import { HOUR } from '@virt-trust/base/instant.ts';
import type { Grant } from '@virt-trust/contract/model/grant.ts';
import type { MigrationOrder, MigrationStatus, PreparedVm } from '@virt-trust/contract/model/migration.ts';
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
import type { AgentContext, Migrations } from '../ports.ts';
import { readFileIfPresent } from '../state/atomic-file.ts';
import { hintFor } from './hints.ts';
import { resolveInterrupted } from './resume.ts';
import { controlCrlOf, refuseRevokedDestination } from './revocation.ts';
import { type MigrationRecord, MigrationStore } from './store.ts';
import { libvirtMessage, Virsh } from './virsh.ts';

/** Migrations under way at once; more would only share the same wire. */
const LIMIT = 8;
/** How long an ended migration can be asked about, and a prepared one waits for its certificate. */
const KEEP_MS = 24 * HOUR;
const LOOK_MS = 500;

/** Makes what runs migrations from this host; migrations that the agent's end cut off are looked up first. */
export async function makeMigrations(context: AgentContext): Promise<Migrations> {
  const migrations = new HostMigrations(context);
  await migrations.resume();
  return migrations;
}

class HostMigrations implements Migrations {
  readonly #context: AgentContext;
  readonly #store: MigrationStore;
  readonly #virsh: Virsh;
  readonly #running = new Map<string, { readonly stop: AbortController; cancelled: boolean }>();
  #changed = Promise.withResolvers<void>();
  #closed = false;

  constructor(context: AgentContext) {
    this.#context = context;
    this.#store = new MigrationStore(context.paths);
    this.#virsh = new Virsh(context.run);
  }

  async resume(): Promise<void> {
    for (const record of await this.#store.list()) {
      const { status } = record;
      const old = this.#context.clock.now() - record.createdAt > KEEP_MS;
      if (status.phase === 'running') this.#watchInterrupted(record);
      else if (old) await this.#store.forget(status.id);
      else if (status.phase !== 'requested') await this.#store.destroySecrets(status.id);
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
    const { tls } = order;
    if (tls === null) throw conflict(order.id, `mode ${order.mode} is not known here`);
    const controlCrl = await controlCrlOf(this.#context.paths, tls);
    const privateKey = await this.#key(order.id);
    const { organization, commonName } = tls.subject;
    const der = createCertificationRequest({
      privateKey,
      subject: encodeName({ organization, commonName }),
      sans: [],
    });
    await this.#store.putFile(order.id, 'clientKey', encodePrivateKeyPem(privateKey));
    await this.#store.putFile(order.id, 'caCertificate', tls.controlBundle);
    if (controlCrl !== undefined) await this.#store.putFile(order.id, 'crl', controlCrl);
    const { id, vm, mode } = order;
    const status = {
      id,
      vm,
      mode,
      phase: 'requested' as const,
      step: null,
      runsOn: null,
      progress: null,
      proof: null,
      error: null,
    };
    await this.#store.write({ order, status, createdAt: this.#context.clock.now() });
    return { csr: encodePem('CERTIFICATE REQUEST', der), vm: await this.#prepared(order) };
  }

  /** What the VM is known by. */
  async #prepared({ vm }: MigrationOrder): Promise<PreparedVm> {
    const { stdout: uuid } = await this.#context.run('virsh', [
      '-c',
      'qemu:///system',
      'domuuid',
      '--domain',
      vm,
    ]);
    return { uuid: uuid.trim(), xmlSha256: '0'.repeat(64), persistentXmlSha256: null, copiedDisks: [] };
  }

  async start(id: string, certificate: string | null): Promise<MigrationStatus> {
    const record = await this.#find(id);
    if (record.status.phase !== 'requested') return record.status;
    const key = await readFileIfPresent(join(this.#store.directory(id), 'clientkey.pem'));
    if (key === undefined)
      return await this.#end(record, 'failed', 'the key of this migration is gone: the host was restarted');
    const [leaf] = certificate === null ? [] : parseCertificates(certificate);
    if (leaf === undefined || !keyMatchesCertificate(parsePrivateKeyPem(key.toString('utf8')), leaf)) {
      throw new TrustError(
        'certificate.unexpected',
        'invalid',
        `cannot start migration ${id}: the certificate is for another key`,
      );
    }
    // A CRL may have come since.
    try {
      await this.#refuseRevoked(record.order);
    } catch (error) {
      await this.#end(record, 'failed', libvirtMessage(error));
      throw error;
    }
    await this.#store.putFile(id, 'clientCertificate', certificate ?? '');
    const begun = await this.#change(record, { ...record.status, phase: 'running' });
    await this.#context.record('migration.started', begun.order.vm, `to ${begun.order.to}`);
    const state = { stop: new AbortController(), cancelled: false };
    this.#running.set(id, state);
    void this.#carry(begun).catch((error) =>
      this.#context.log.error({ id, reason: libvirtMessage(error) }, 'migration lost'),
    );
    return begun.status;
  }

  async get(id: string, waitMs: number, signal: AbortSignal): Promise<MigrationStatus> {
    const before = (await this.#find(id)).status;
    if (waitMs <= 0 || !this.#running.has(id)) return before;
    const limit = AbortSignal.any([signal, AbortSignal.timeout(waitMs)]);
    const ended = new Promise<void>((resolve) =>
      limit.addEventListener('abort', () => resolve(), { once: true }),
    );
    for (;;) {
      const changed = this.#changed.promise;
      const { status } = await this.#find(id);
      if (limit.aborted || JSON.stringify(status) !== JSON.stringify(before)) return status;
      await Promise.race([changed, ended]);
    }
  }

  async cancel(id: string): Promise<MigrationStatus> {
    const record = await this.#find(id);
    if (record.status.phase === 'requested') return await this.#end(record, 'cancelled');
    const running = this.#running.get(id);
    if (running === undefined) return record.status;
    running.cancelled = true;
    try {
      await this.#virsh.abort(record.order.vm);
    } catch (error) {
      // Over already, or not begun: then virsh itself is ended.
      if (!(await this.#virsh.hasJob(record.order.vm))) running.stop.abort(new Error('cancelled'));
      else throw error;
    }
    return (await this.#find(id)).status;
  }

  async vmState({ id, vm }: Grant) {
    const state = vm === null ? undefined : await this.#virsh.state(vm.name);
    const phase = (await this.#store.read(id))?.status.phase ?? null;
    return { state: state ?? null, reason: '', phase };
  }

  async close(): Promise<void> {
    // virsh runs in a group of its own and carries the migration to its end; the next start finds out how it went.
    this.#closed = true;
    this.#wake();
  }

  async #carry(record: MigrationRecord): Promise<void> {
    const { id, vm } = record.status;
    const over = new AbortController();
    const watching = this.#watch(id, over.signal);
    const { stop } = this.#running.get(id) ?? { stop: new AbortController() };
    let error: unknown;
    try {
      await this.#virsh.migrate(record.order, this.#store.directory(id), stop.signal);
    } catch (caught) {
      error = caught;
    }
    over.abort();
    await watching;
    if (this.#closed) return;
    const latest = await this.#find(id);
    if (error === undefined) await this.#end(latest, 'done');
    else if (this.#running.get(id)?.cancelled === true && (await this.#virsh.state(vm)) !== undefined)
      await this.#end(latest, 'cancelled');
    else await this.#end(latest, 'failed', libvirtMessage(error));
    this.#running.delete(id);
  }

  /**
   * Looks at progress until the migration is over. The stream begins throttled and gets its speed once QEMU itself was
   * seen to carry it with TLS credentials: a small VM would be over before anybody could look.
   */
  async #watch(id: string, over: AbortSignal): Promise<void> {
    let proven = false;
    while (!over.aborted && !this.#closed) {
      const record = await this.#find(id);
      const { vm } = record.status;
      try {
        const seen: MigrationStatus['proof'] | undefined = proven
          ? undefined
          : await this.#virsh.proof(record.order);
        const progress = await this.#virsh.progress(vm);
        if (seen !== undefined) await this.#virsh.setSpeed(vm, record.order.options.bandwidthMiB || null);
        if (over.aborted) return;
        const proof: MigrationStatus['proof'] = seen ?? record.status.proof;
        proven = proof !== null;
        if (progress !== undefined || seen !== undefined)
          await this.#change(record, {
            ...record.status,
            progress: progress ?? record.status.progress,
            proof,
          });
      } catch {
        // The VM may be gone from here at any moment: the migration itself says how it ended.
      }
      await untilAborted(over, proven ? LOOK_MS : LOOK_MS / 5);
    }
  }

  #watchInterrupted(record: MigrationRecord): void {
    const stop = new AbortController();
    this.#running.set(record.status.id, { stop, cancelled: false });
    void resolveInterrupted(this.#virsh, record, () => this.#closed)
      .then(async (outcome) => {
        if (outcome === undefined) return;
        await this.#end(await this.#find(record.status.id), outcome.phase, outcome.message);
      })
      .catch((error) => this.#context.log.error({ reason: libvirtMessage(error) }, 'migration lost'))
      .finally(() => this.#running.delete(record.status.id));
  }

  async #end(
    record: MigrationRecord,
    phase: 'done' | 'failed' | 'cancelled',
    message?: string,
  ): Promise<MigrationStatus> {
    await this.#store.destroySecrets(record.status.id);
    const error = message === undefined ? null : { message, hint: hintFor(message) };
    const progress =
      phase === 'done' && record.status.progress !== null
        ? { ...record.status.progress, percent: 100, remainingBytes: 0 }
        : record.status.progress;
    const { status } = await this.#change(record, { ...record.status, phase, error, progress });
    await this.#context.record(`migration.${phase}`, record.order.vm, message ?? phase);
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

  async #key(id: string) {
    const known = await readFileIfPresent(join(this.#store.directory(id), 'clientkey.pem'));
    return known === undefined
      ? await generatePrivateKey('ecdsa-p256-sha256')
      : parsePrivateKeyPem(known.toString('utf8'));
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
      await this.#context.record('migration.refused', order.vm, libvirtMessage(error));
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
    if (open.some(({ status }) => status.vm === order.vm && status.phase === 'running'))
      throw conflict(order.id, `${order.vm} is being migrated already`);
    if (open.length >= LIMIT)
      throw conflict(order.id, `${open.length} migrations are under way on this host`);
  }
}

async function untilAborted(signal: AbortSignal, milliseconds: number): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, milliseconds);
  signal.addEventListener('abort', () => resolve(), { once: true });
  await promise;
  clearTimeout(timer);
}

function conflict(id: string, reason: string): TrustError {
  return new TrustError('migration.conflict', 'conflict', `cannot prepare migration ${id}: ${reason}`);
}
