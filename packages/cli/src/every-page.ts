/** Reads a paged list to its end. */
export async function everyPage<Item>(
  read: (query: { cursor?: string; limit?: number }) => Promise<{ items: Item[]; next: string | null }>,
): Promise<Item[]> {
  const items: Item[] = [];
  let cursor: string | null = null;
  do {
    const page: { items: Item[]; next: string | null } = await read(
      cursor === null ? { limit: 500 } : { cursor, limit: 500 },
    );
    items.push(...page.items);
    cursor = page.next;
  } while (cursor !== null);
  return items;
}
