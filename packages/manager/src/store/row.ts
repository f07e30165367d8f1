import { TrustError } from '@virt-trust/base/error.ts';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Row } from './database.ts';

function wrong(name: string, expected: string): TrustError {
  return new TrustError('store.column', 'internal', `cannot read column ${name}: not ${expected}`);
}

/** A text column that is not null. */
export function text(row: Row, name: string): string {
  const value = row[name];
  if (typeof value !== 'string') throw wrong(name, 'text');
  return value;
}

/** A text column, null where it is. */
export function textOrNull(row: Row, name: string): string | null {
  return row[name] === null ? null : text(row, name);
}

/** An integer column that is not null. */
export function integer(row: Row, name: string): number {
  const value = row[name];
  if (typeof value !== 'number' || !Number.isSafeInteger(value)) throw wrong(name, 'an integer');
  return value;
}

/** A time column that is not null. */
export function time(row: Row, name: string): Instant {
  return integer(row, name) as Instant;
}

/** A time column, null where it is. */
export function timeOrNull(row: Row, name: string): Instant | null {
  return row[name] === null ? null : time(row, name);
}

/** A 0 or 1 column. */
export function flag(row: Row, name: string): boolean {
  return integer(row, name) !== 0;
}

/** A blob column that is not null. */
export function bytes(row: Row, name: string): Uint8Array {
  const value = row[name];
  if (!(value instanceof Uint8Array)) throw wrong(name, 'bytes');
  return value;
}

/** A column of JSON that this program wrote, of the type that it wrote. */
export function json<T>(row: Row, name: string): T {
  return JSON.parse(text(row, name)) as T;
}
