import type { Migration } from './migration.ts';

export const revocation: Migration = {
  number: 4,
  name: 'revocation',
  sql: `
alter table certificates add column issued_at integer not null default 0;
-- The host that has the key of a client certificate, made for a migration from it.
alter table certificates add column held_by text;
create index certificates_by_bearer on certificates (held_by, not_after) where held_by is not null;

-- Each was recorded with its entry in the audit log, which says when.
update certificates set issued_at = intents.at
  from (
    select subject, min(at) as at from audit
      where action = 'certificate.issue' and outcome = 'intent' group by subject
  ) as intents
  where intents.subject = certificates.serial_number;
update certificates set issued_at = max(0, not_after - 15552000000) where issued_at = 0;

create table revocations (
  sequence integer primary key autoincrement,
  serial_number text not null unique references certificates (serial_number),
  authority text not null references authorities (name),
  at integer not null,
  reason text not null,
  actor text not null,
  comment text not null,
  not_after integer not null,
  -- What asked for it: the id of a job, or 'canary'.
  origin text not null,
  -- Whether it is on the CRL: it goes after a CRL from past the certificate's end had it (RFC 5280 section 3.3).
  listed integer not null default 1 check (listed in (0, 1))
) strict;
create index revocations_listed on revocations (authority, sequence) where listed = 1;

-- Grows with each change of what an authority's CRL has to say; rewrites with each that is more than entries at its end.
create table crl_changes (
  authority text primary key references authorities (name),
  changes integer not null,
  rewrites integer not null default 0
) strict, without rowid;

-- The newest of each authority; its number is never lowered.
create table crls (
  authority text primary key references authorities (name),
  number integer not null,
  this_update integer not null,
  next_update integer not null,
  changes integer not null,
  entries integer not null,
  host_entries integer not null,
  canary text,
  whole blob not null,
  -- Null where it is the same.
  for_hosts blob
) strict;
create trigger crls_grow before update on crls when new.number <= old.number
  begin select raise(abort, 'a CRL number is never used again'); end;

create table crl_deliveries (
  host text not null references hosts (id) on delete cascade,
  authority text not null references authorities (name),
  number integer not null,
  next_update integer not null,
  at integer not null,
  failure text,
  primary key (host, authority)
) strict, without rowid;

-- Hosts that get no certificate until somebody provisions them by name.
create table revoked_hosts (
  host text primary key references hosts (name) on delete cascade on update cascade,
  at integer not null
) strict, without rowid;

-- Whose sessions are cut on hosts that learn of it late.
create table revoked_parties (
  sequence integer primary key autoincrement,
  at integer not null,
  host text,
  origin text not null unique,
  subjects text not null,
  addresses text not null
) strict;
`,
};
