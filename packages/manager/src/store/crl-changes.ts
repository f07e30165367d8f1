import type { Database } from './database.ts';

/** Notes, within a transaction, that an authority's CRL has something else to say; `rewrites` where it is more than new entries. */
export function noteCrlChange(database: Database, authority: string, rewrites: number): void {
  database.run(
    `insert into crl_changes (authority, changes, rewrites) values (?, 1, ?)
      on conflict (authority) do update set changes = changes + 1, rewrites = rewrites + excluded.rewrites`,
    authority,
    rewrites,
  );
}
