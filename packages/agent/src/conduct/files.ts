import { mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { Grant } from '@virt-trust/contract/model/grant.ts';
import { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import { PKIPATH_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';
import Type, { type Static } from 'typebox';
import { readFileIfPresent, writeFileAtomic } from '../state/atomic-file.ts';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';
import type { ClientFilesPem } from './access.ts';
import { Journal } from './outcome.ts';

const strict = { additionalProperties: false };

/** What a conductor is given. */
const Commission = Type.Object(
  {
    order: MigrationOrder,
    grant: Type.Union([Grant, Type.Null()]),
    /** Whose processes QEMU's are on this host. */
    qemu: Type.Union([
      Type.Object({ uid: Type.Integer({ minimum: 0 }), gid: Type.Integer({ minimum: 0 }) }, strict),
      Type.Null(),
    ]),
  },
  strict,
);
export type Commission = Static<typeof Commission>;

/** How a migration stands, as its conductor says it. */
const Report = Type.Object({ status: MigrationStatus, journal: Journal }, strict);
export type Report = Static<typeof Report>;

/** The files by which the agent and the process that conducts a migration talk: they outlive either. */
export class ConductFiles {
  readonly directory: string;
  readonly #commission: Document<typeof Commission>;
  readonly #report: Document<typeof Report>;

  constructor(paths: AgentPaths, id: string) {
    this.directory = join(paths.migrations, id);
    const wayOut = 'Remove it; the VM runs where virsh list shows it.';
    this.#commission = new Document(join(this.directory, 'order.json'), Commission, wayOut);
    this.#report = new Document(join(this.directory, 'report.json'), Report, wayOut);
  }

  async writeCommission(commission: Commission): Promise<void> {
    await this.#make();
    await this.#commission.write(commission);
  }

  async readCommission(): Promise<Commission | undefined> {
    return await this.#commission.read();
  }

  async writeReport(report: Report): Promise<void> {
    await this.#report.write(report);
  }

  async readReport(): Promise<Report | undefined> {
    return await this.#report.read();
  }

  /** Other than before where another report was written; two in one tick of the kernel's clock may have the same. */
  async reportVersion(): Promise<string> {
    const found = await stat(this.#report.path, { bigint: true }).catch(() => undefined);
    return found === undefined ? '' : [found.ino, found.size, found.mtimeNs, found.ctimeNs].join(' ');
  }

  /** Asks the conductor to end the migration. */
  async requestCancel(): Promise<void> {
    await writeFileAtomic(this.#cancel, '', { mode: 0o600 });
  }

  async isCancelRequested(): Promise<boolean> {
    return await stat(this.#cancel).then(
      () => true,
      () => false,
    );
  }

  /** Puts one of the files of the client certificate of this migration. */
  async putClientFile(file: keyof typeof PKIPATH_FILE_NAMES, text: string): Promise<void> {
    await this.#make();
    await writeFileAtomic(join(this.directory, PKIPATH_FILE_NAMES[file]), text, { mode: 0o600 });
  }

  async readClientFile(file: keyof typeof PKIPATH_FILE_NAMES): Promise<string | undefined> {
    return (await readFileIfPresent(join(this.directory, PKIPATH_FILE_NAMES[file])))?.toString('utf8');
  }

  /** All that a TLS access takes; null where it is not there (any more). */
  async readClientFiles(): Promise<ClientFilesPem | null> {
    const [certificate, privateKey, trust, crl] = await Promise.all([
      this.readClientFile('clientCertificate'),
      this.readClientFile('clientKey'),
      this.readClientFile('caCertificate'),
      this.readClientFile('crl'),
    ]);
    if (certificate === undefined || privateKey === undefined || trust === undefined) return null;
    return { certificate, privateKey, trust, crl };
  }

  /** Removes everything, secrets first of all. */
  async destroy(): Promise<void> {
    await rm(this.directory, { recursive: true, force: true });
  }

  get #cancel(): string {
    return join(this.directory, 'cancel');
  }

  async #make(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o700 });
  }
}
