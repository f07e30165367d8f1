import type { Migration } from './migration.ts';

export const crlRecovery: Migration = {
  number: 7,
  name: 'crl-recovery',
  sql: `
-- As before, but for certificates too that this store does not know: it was restored from before it issued them.
create table revocations_new (
  sequence integer primary key autoincrement,
  serial_number text not null unique,
  authority text not null references authorities (name),
  at integer not null,
  reason text not null,
  actor text not null,
  comment text not null,
  not_after integer not null,
  -- What asked for it: the id of a job, 'canary', or the CRL that it was learnt from.
  origin text not null,
  -- Whether it is on the CRL: it goes after a CRL from past the certificate's end had it (RFC 5280 section 3.3).
  listed integer not null default 1 check (listed in (0, 1))
) strict;
insert into revocations_new (sequence, serial_number, authority, at, reason, actor, comment, not_after, origin, listed)
  select sequence, serial_number, authority, at, reason, actor, comment, not_after, origin, listed from revocations;
drop table revocations;
alter table revocations_new rename to revocations;
create index revocations_listed on revocations (authority, sequence) where listed = 1;

-- The CRLs whose entries this store has: those that it signed, and those that it learnt from.
create table crl_numbers (
  authority text not null references authorities (name),
  number integer not null,
  primary key (authority, number)
) strict, without rowid;
insert into crl_numbers (authority, number) select authority, number from crls;

-- Hosts that were asked what they hold, in which epoch: until then nothing is brought to them.
create table crl_heard (
  host text primary key references hosts (id) on delete cascade,
  epoch integer not null
) strict, without rowid;
`,
};
