import type { Migration } from './migration.ts';

export const certificates: Migration = {
  number: 2,
  name: 'certificates',
  sql: `
create table authorities (
  name text primary key,
  purpose text not null unique,
  provider text not null,
  root_certificate blob not null,
  issuing_certificate blob not null,
  sealed_root_key blob not null,
  sealed_issuing_key blob not null
) strict;

create table certificates (
  sequence integer primary key,
  serial_number text not null unique,
  authority text not null references authorities (name),
  profile text not null,
  host text,
  service text,
  pin text not null,
  not_after integer not null,
  tbs blob not null,
  signature blob,
  check ((host is null) = (service is null))
) strict;
create index certificates_by_host on certificates (host, sequence) where host is not null;

create table certified_keys (
  pin text primary key,
  host text,
  service text
) strict, without rowid;
`,
};
