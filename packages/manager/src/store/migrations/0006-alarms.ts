import type { Migration } from './migration.ts';

export const alarms: Migration = {
  number: 6,
  name: 'alarms',
  sql: `
create table alarms (
  sequence integer primary key autoincrement,
  id text not null unique,
  source text not null,
  kind text not null,
  subject text not null,
  host text,
  severity text not null check (severity in ('warning', 'critical')),
  message text not null,
  action text not null,
  state text not null check (state in ('raised', 'acknowledged', 'cleared')),
  raised_at integer not null,
  acknowledged_by text,
  gone_since integer,
  cleared_at integer,
  seen integer not null,
  check ((state = 'cleared') = (cleared_at is not null))
) strict;
create unique index alarms_open on alarms (kind, subject) where state <> 'cleared';
create index alarms_by_host on alarms (host, sequence) where host is not null;
create index alarms_cleared on alarms (cleared_at) where state = 'cleared';

create table webhook (
  id integer primary key check (id = 1),
  url text not null,
  sealed_secret blob not null,
  last_delivery_at integer,
  last_failure text,
  dropped integer not null default 0
) strict;

create table webhook_deliveries (
  sequence integer primary key autoincrement,
  id text not null unique,
  event text not null,
  body text not null
) strict;

-- Up to which of its agent's events a host was followed.
create table host_watches (
  host text primary key references hosts (id) on delete cascade,
  sequence integer not null
) strict, without rowid;
`,
};
