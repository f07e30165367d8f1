import type { Migration } from './migration.ts';

export const renewal: Migration = {
  number: 5,
  name: 'renewal',
  sql: `
-- What a service of a host serves, and when that is renewed.
create table renewals (
  host text not null references hosts (name) on delete cascade on update cascade,
  service text not null,
  serial_number text not null,
  not_after integer not null,
  due_at integer not null,
  -- Was due while the host was away: passed over until its channel comes up, and then the first.
  away integer not null default 0 check (away in (0, 1)),
  first integer not null default 0 check (first in (0, 1)),
  failures integer not null default 0,
  last_failed_at integer,
  last_failure text,
  -- Of a renewal that nobody had asked for by name: these stop a wave.
  wave_failed_at integer,
  -- What would be different although it was just renewed for that.
  futile text not null default '',
  primary key (host, service)
) strict, without rowid;
create index renewals_by_due on renewals (due_at) where away = 0;
create index renewals_by_serial on renewals (serial_number);
create index renewals_failing on renewals (host) where failures > 0;

create table renewal_control (
  id integer primary key check (id = 1),
  frozen integer not null check (frozen in (0, 1)),
  frozen_by text,
  reason text not null,
  since integer,
  -- Null where no wave is under way.
  wave_began_at integer,
  wave_successes integer not null,
  last_success_at integer not null,
  -- Failures before this count no longer.
  counted_from integer not null
) strict;
insert into renewal_control values (1, 0, null, '', null, null, 0, 0, 0);

-- Lifetimes were whole days, and apart for VNC.
update or ignore settings set name = 'certificate.lifetime', value = '"' || value || 'd"'
  where name = 'certificate.lifetime_days';
delete from settings where name in ('certificate.lifetime_days', 'certificate.vnc_lifetime_days');
`,
};
