import { closeSync, fdatasync, openSync } from 'node:fs';
import { DatabaseSync, type SQLOutputValue, type StatementSync } from 'node:sqlite';
import { promisify } from 'node:util';
import { TrustError } from '@virt-trust/base/error.ts';
import { storeError } from './store-error.ts';

/** What a statement takes; a boolean is written 0 or 1 by the caller, a time as its number. */
export type SqlValue = string | number | bigint | null | Uint8Array;

/** A row as it comes; read it with the accessors of row.ts. */
export type Row = Readonly<Record<string, SQLOutputValue>>;

const syncOnThreadPool = promisify(fdatasync);

const UNUSABLE = 'cannot use the store';

interface Prepared {
  readonly statement: StatementSync;
  readonly parameters: number;
}

/**
 * One SQLite connection: WAL, synchronous=FULL, foreign keys, statements prepared once for each text.
 * Everything is synchronous, so that nothing else can join a transaction.
 */
export class Database {
  readonly #connection: DatabaseSync;
  readonly #statements = new Map<string, Prepared>();
  readonly #log: number;
  #depth = 0;

  constructor(path: string) {
    try {
      // SECURITY: made by us before SQLite opens it, so that it never is readable to others; WAL and shm files take its mode.
      closeSync(openSync(path, 'a', 0o600));
      this.#connection = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 5000 });
      this.#connection.exec(
        'pragma journal_mode = wal; pragma synchronous = full; pragma trusted_schema = off; pragma secure_delete = on',
      );
      // Indexes of random keys touch pages all over: 64 MiB keep them in memory, and fewer checkpoints write each less often.
      this.#connection.exec('pragma cache_size = -65536; pragma wal_autocheckpoint = 4096');
      // A first transaction makes the log file; it stays the same file while this connection is open.
      this.#connection.exec('begin immediate; commit');
      this.#log = openSync(`${path}-wal`, 'r');
    } catch (cause) {
      throw storeError(`cannot open ${path}`, cause);
    }
  }

  /** Runs a statement that answers no rows; returns how many rows it changed. */
  run(sql: string, ...parameters: SqlValue[]): number {
    const statement = this.#prepare(sql, parameters);
    try {
      return Number(statement.run(...parameters).changes);
    } catch (cause) {
      throw storeError(UNUSABLE, cause);
    }
  }

  /** The first row, or undefined. */
  get(sql: string, ...parameters: SqlValue[]): Row | undefined {
    const statement = this.#prepare(sql, parameters);
    try {
      return statement.get(...parameters);
    } catch (cause) {
      throw storeError(UNUSABLE, cause);
    }
  }

  /** All rows: the statement bounds them. */
  all(sql: string, ...parameters: SqlValue[]): Row[] {
    const statement = this.#prepare(sql, parameters);
    try {
      return statement.all(...parameters);
    } catch (cause) {
      throw storeError(UNUSABLE, cause);
    }
  }

  /** Runs several statements of a text without parameters, such as a migration. */
  script(sql: string): void {
    try {
      this.#connection.exec(sql);
    } catch (cause) {
      throw storeError('cannot run a script on the store', cause);
    }
  }

  /**
   * Runs `unit` in one transaction and commits, or rolls back whatever it throws. `unit` is synchronous and does no I/O
   * but on this store. Inside another transaction it is a part of that one (a savepoint).
   */
  transaction<T>(unit: () => T): T {
    const name = this.#depth === 0 ? '' : `unit_${this.#depth}`;
    this.script(name === '' ? 'begin immediate' : `savepoint ${name}`);
    this.#depth += 1;
    try {
      const result = unit();
      if (isThenable(result)) {
        // It goes on after the rollback; its outcome is of no interest, but must not bring the process down.
        Promise.resolve(result).catch(() => {});
        throw new TrustError(
          'store.async_transaction',
          'internal',
          'cannot run an asynchronous function in a transaction',
        );
      }
      this.script(name === '' ? 'commit' : `release ${name}`);
      return result;
    } catch (error) {
      this.#rollBack(name);
      throw error;
    } finally {
      this.#depth -= 1;
    }
  }

  /**
   * Like `transaction`, and resolves once the unit is on the disk, but the sync runs on the thread pool, so that others are
   * served meanwhile and many units share one sync. synchronous=NORMAL leaves out nothing but the sync of the log after
   * a commit (sqlite.org/pragma.html#pragma_synchronous), which follows here.
   */
  async durableTransaction<T>(unit: () => T): Promise<T> {
    this.script('pragma synchronous = normal');
    let result: T;
    try {
      result = this.transaction(unit);
    } finally {
      this.script('pragma synchronous = full');
    }
    try {
      // SECURITY: what is answered for must survive a power cut.
      await syncOnThreadPool(this.#log);
    } catch (cause) {
      throw storeError('cannot write the store to the disk', cause);
    }
    return result;
  }

  close(): void {
    this.#statements.clear();
    if (!this.#connection.isOpen) return;
    closeSync(this.#log);
    this.#connection.close();
  }

  #rollBack(name: string): void {
    // A full disk or an I/O error may have rolled the whole transaction back already.
    if (!this.#connection.isTransaction) return;
    this.script(name === '' ? 'rollback' : `rollback to ${name}; release ${name}`);
  }

  #prepare(sql: string, parameters: readonly SqlValue[]): StatementSync {
    let prepared = this.#statements.get(sql);
    if (prepared === undefined) {
      try {
        prepared = { statement: this.#connection.prepare(sql), parameters: countParameters(sql) };
      } catch (cause) {
        throw storeError(UNUSABLE, cause);
      }
      this.#statements.set(sql, prepared);
    }
    checkParameters(sql, prepared.parameters, parameters);
    return prepared.statement;
  }
}

/**
 * Refuses what node:sqlite would take silently: an object as first parameter is read as named parameters and shifts the
 * others, and a missing parameter is bound to null.
 */
function checkParameters(sql: string, expected: number, parameters: readonly unknown[]): void {
  if (parameters.length !== expected) {
    throw badParameter(sql, `${parameters.length} parameters in place of ${expected}`);
  }
  for (let index = 0; index < expected; index++) {
    const value = parameters[index];
    const good =
      value === null ||
      typeof value === 'string' ||
      typeof value === 'bigint' ||
      (typeof value === 'number' && Number.isFinite(value)) ||
      value instanceof Uint8Array;
    if (!good) throw badParameter(sql, `parameter ${index + 1} is ${Object.prototype.toString.call(value)}`);
  }
}

function badParameter(sql: string, reason: string): TrustError {
  return new TrustError(
    'store.parameter',
    'internal',
    `cannot run ${JSON.stringify(sql.slice(0, 80))}: ${reason}`,
  );
}

/** Counts the `?` of a statement outside of literals, quoted names and comments. */
export function countParameters(sql: string): number {
  return (sql.match(/'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|\?/g) ?? []).filter((part) => part === '?')
    .length;
}

function isThenable(value: unknown): boolean {
  return (
    typeof value === 'object' && value !== null && typeof (value as { then?: unknown }).then === 'function'
  );
}
