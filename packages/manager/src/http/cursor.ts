import { TrustError } from '@virt-trust/base/error.ts';

const DEFAULT_LIMIT = 100;

/** A page as it is asked for. */
export interface PageQuery {
  readonly cursor?: string;
  readonly limit?: number;
}

/** A page as it is answered; `next` is the cursor of the one after it. */
export interface Page<Item> {
  readonly items: Item[];
  readonly next: string | null;
}

/**
 * One page of an ordered list: `read` gets where to go on from (undefined at the beginning) and how many items it may
 * return; `position` is where an item stands. Cursors are opaque to clients.
 */
export async function pageOf<Record, Item>(
  query: PageQuery | undefined,
  read: (after: string | undefined, limit: number) => Promise<readonly Record[]>,
  position: (record: Record) => string,
  item: (record: Record) => Item,
): Promise<Page<Item>> {
  const limit = query?.limit ?? DEFAULT_LIMIT;
  const records = await read(query?.cursor === undefined ? undefined : decodeCursor(query.cursor), limit + 1);
  const shown = records.slice(0, limit);
  const last = shown.at(-1);
  const next = records.length > limit && last !== undefined ? encodeCursor(position(last)) : null;
  return { items: shown.map(item), next };
}

/** The position of a list that is ordered by a sequence number. */
export function sequenceOf(position: string | undefined): number | undefined {
  if (position === undefined) return undefined;
  if (!/^\d{1,15}$/.test(position)) throw badCursor();
  return Number(position);
}

function encodeCursor(position: string): string {
  return Buffer.from(`c:${position}`).toString('base64url');
}

function decodeCursor(cursor: string): string {
  const text = Buffer.from(cursor, 'base64url').toString();
  // biome-ignore lint/suspicious/noControlCharactersInRegex: no position has one
  if (!text.startsWith('c:') || /[\u0000-\u001f\u007f\ufffd]/.test(text)) throw badCursor();
  return text.slice(2);
}

function badCursor(): TrustError {
  return new TrustError('request.cursor', 'invalid', 'cannot read the cursor: no page ended with it', {
    hint: 'take the cursor from `next` of the page before, or leave it out',
  });
}
