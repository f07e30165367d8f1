import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MigrationOrder, MigrationStatus } from '@virt-trust/contract/model/migration.ts';
import { Time } from '@virt-trust/contract/model/primitives.ts';
import { PKIPATH_FILE_NAMES } from '@virt-trust/libvirt/layout.ts';
import Type, { type Static } from 'typebox';
import type { AgentPaths } from '../paths.ts';
import { writeFileAtomic } from '../state/atomic-file.ts';
import { Document } from '../state/document.ts';

const RECORD_NAME = /^[0-9a-f-]{36}$/;

/** A migration as it is kept: what was asked for and how it stands. */
export const MigrationRecord = Type.Object(
  { order: MigrationOrder, status: MigrationStatus, createdAt: Time },
  { additionalProperties: false },
);
export type MigrationRecord = Static<typeof MigrationRecord>;

/** The migrations of this host: each a record that outlives the agent, and secrets that end with the migration. */
export class MigrationStore {
  readonly #paths: AgentPaths;

  constructor(paths: AgentPaths) {
    this.#paths = paths;
  }

  /** Where the client's key and certificate of a migration are, for virsh's `pkipath`. */
  directory(id: string): string {
    return join(this.#paths.migrations, id);
  }

  async read(id: string): Promise<MigrationRecord | undefined> {
    return await this.#document(id).read();
  }

  async write(record: MigrationRecord): Promise<void> {
    await mkdir(this.#records, { recursive: true, mode: 0o700 });
    await this.#document(record.order.id).write(record);
  }

  async forget(id: string): Promise<void> {
    await this.#document(id).remove();
    await this.destroySecrets(id);
  }

  async list(): Promise<MigrationRecord[]> {
    const names = await readdir(this.#records).catch((): string[] => []);
    const ids = names.map((name) => name.replace(/\.json$/, '')).filter((id) => RECORD_NAME.test(id));
    const records = await Promise.all(ids.map((id) => this.read(id)));
    return records.filter((record) => record !== undefined);
  }

  /** Puts one of the files that virsh reads. */
  async putFile(id: string, file: keyof typeof PKIPATH_FILE_NAMES, text: string): Promise<void> {
    const directory = this.directory(id);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    await writeFileAtomic(join(directory, PKIPATH_FILE_NAMES[file]), text, { mode: 0o600 });
  }

  /** Destroys key and certificate of a migration, whichever way it ended. */
  async destroySecrets(id: string): Promise<void> {
    await rm(this.directory(id), { recursive: true, force: true });
  }

  get #records(): string {
    return join(this.#paths.agent, 'migrations');
  }

  #document(id: string): Document<typeof MigrationRecord> {
    return new Document(
      join(this.#records, `${id}.json`),
      MigrationRecord,
      'Remove it; the VM runs where virsh list shows it.',
    );
  }
}
