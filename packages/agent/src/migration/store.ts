import { mkdir, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MigrationOrder, MigrationStatus, PreparedVm } from '@virt-trust/contract/model/migration.ts';
import { Time } from '@virt-trust/contract/model/primitives.ts';
import Type, { type Static } from 'typebox';
import { ConductFiles } from '../conduct/files.ts';
import { Document } from '../state/document.ts';
import type { AgentPaths } from '../state/paths.ts';

const RECORD_NAME = /^[0-9a-f-]{36}$/;

/** A migration as it is kept: what was asked for, what was found, and how it stands. */
export const MigrationRecord = Type.Object(
  { order: MigrationOrder, vm: PreparedVm, status: MigrationStatus, createdAt: Time },
  { additionalProperties: false },
);
export type MigrationRecord = Static<typeof MigrationRecord>;

/** The migrations that this host's agent conducts: each a record that outlives the agent. */
export class MigrationStore {
  readonly #paths: AgentPaths;

  constructor(paths: AgentPaths) {
    this.#paths = paths;
  }

  /** What the process that conducts it works with; it ends with the migration, and the secrets in it. */
  files(id: string): ConductFiles {
    return new ConductFiles(this.#paths, id);
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
    await this.files(id).destroy();
  }

  /** Records that can be read: one of an older version is none to go on with. */
  async list(): Promise<MigrationRecord[]> {
    const names = await readdir(this.#records).catch((): string[] => []);
    const ids = names.map((name) => name.replace(/\.json$/, '')).filter((id) => RECORD_NAME.test(id));
    const records = await Promise.all(ids.map((id) => this.read(id).catch(() => undefined)));
    return records.filter((record) => record !== undefined);
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
