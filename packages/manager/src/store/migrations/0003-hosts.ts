import type { Migration } from './migration.ts';

export const hosts: Migration = {
  number: 3,
  name: 'hosts',
  sql: `
create table hosts (
  id text primary key,
  name text not null unique,
  cluster text not null,
  state text not null,
  document text not null
) strict;
create index hosts_by_cluster on hosts (cluster);

-- No two hosts have one name or address: whoever claims one first keeps it.
create table host_names (
  name text primary key,
  host text not null references hosts (id) on delete cascade
) strict;
create index host_names_by_host on host_names (host);

create table manager_identities (
  pin text primary key,
  position text not null unique check (position in ('current', 'next', 'previous')),
  certificate text not null,
  sealed_key blob not null
) strict;

create table manager_numbers (
  name text primary key,
  value integer not null
) strict;
`,
};
