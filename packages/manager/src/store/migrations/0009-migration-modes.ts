import type { Migration } from './migration.ts';

export const migrationModes: Migration = {
  number: 9,
  name: 'migration-modes',
  sql: `
alter table jobs add column plan text;
alter table jobs add column warnings text not null default '[]';
-- What hosts can do in migrations they have not reported yet.
update hosts set document = json_set(document, '$.observed.capabilities', json('null'))
  where document ->> '$.observed' is not null;
-- Until now there was one mode, and progress of memory alone.
update jobs set migration = json_set(migration,
    '$.mode', 'tls', '$.step', json('null'), '$.runsOn', json('null'), '$.progress', json('null'))
  where migration is not null;
update jobs set progress = null;
create table unmanaged_hosts (
  name text primary key,
  cluster text not null,
  address text not null,
  added_at integer not null
) strict;
`,
};
