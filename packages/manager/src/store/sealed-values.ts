import type { SealedValues } from '../seal/rotation.ts';
import { type Seal, sealedUnder } from '../seal/seal.ts';
import type { Database, Row } from './database.ts';
import { bytes, text } from './row.ts';
import { SEALED_COLUMNS, type SealedColumn } from './sealed-columns.ts';

/** A sealed value's second to fifth byte: the id of its key (seal/seal.ts). */
const KEY_ID = (column: string) => `substr(${column}, 2, 4)`;

/** Every sealed value of the store, wherever it is. */
export class SqliteSealedValues implements SealedValues {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  sealAnew(seal: Seal, limit: number): number {
    return this.#database.transaction(() => {
      let done = 0;
      for (const column of this.#columns()) done += this.#sealAnew(column, seal, limit - done);
      return done;
    });
  }

  left(keyId: string): number {
    let left = 0;
    for (const { table, column } of this.#columns()) {
      const row = this.#database.get(
        `select count(*) as left from ${table} where ${column} is not null and ${KEY_ID(column)} <> ?`,
        Buffer.from(keyId, 'hex'),
      );
      left += Number(row?.['left'] ?? 0);
    }
    return left;
  }

  flushLog(): boolean {
    const [row] = this.#database.all('pragma wal_checkpoint(truncate)');
    return row?.['busy'] === 0;
  }

  /** Opens every value, so that it is known that the keys are all there; returns the ids of those that are needed. */
  verify(seal: Seal): string[] {
    const ids = new Set<string>();
    for (const column of this.#columns()) {
      for (const row of this.#database.all(select(column, ''))) {
        const value = bytes(row, 'value');
        seal.open(placeOf(column, row), value);
        ids.add(sealedUnder(value));
      }
    }
    return [...ids];
  }

  #sealAnew(column: SealedColumn, seal: Seal, limit: number): number {
    const rows = this.#database.all(
      `${select(column, `and ${KEY_ID(column.column)} <> ?`)} limit ?`,
      Buffer.from(seal.keyId, 'hex'),
      Math.max(0, limit),
    );
    for (const row of rows) {
      const place = placeOf(column, row);
      this.#database.run(
        `update ${column.table} set ${column.column} = ? where cast(${column.key} as text) = ?`,
        seal.seal(place, seal.open(place, bytes(row, 'value'))),
        place.row,
      );
    }
    return rows.length;
  }

  /** Those that the schema has: a copy of an older store is looked at too. */
  #columns(): SealedColumn[] {
    return SEALED_COLUMNS.filter(
      ({ table, column }) =>
        this.#database.get('select 1 from pragma_table_info(?) where name = ?', table, column) !== undefined,
    );
  }
}

function select({ table, key, column }: SealedColumn, more: string): string {
  return `select cast(${key} as text) as place, ${column} as value from ${table} where ${column} is not null ${more}`;
}

function placeOf({ table, column }: SealedColumn, row: Row) {
  return { table, row: text(row, 'place'), column };
}
