import type { Migration } from './migration.ts';

export const foundation: Migration = {
  number: 1,
  name: 'foundation',
  sql: `
create table audit (
  sequence integer primary key,
  at integer not null,
  actor text not null,
  action text not null,
  subject text not null,
  outcome text not null check (outcome in ('intent', 'done', 'refused', 'failed')),
  detail text not null,
  hash text not null
) strict;
create trigger audit_no_update before update on audit
  begin select raise(abort, 'the audit log is append-only'); end;
create trigger audit_no_delete before delete on audit
  begin select raise(abort, 'the audit log is append-only'); end;

-- Against insert or replace, which fires no trigger on delete.
create trigger audit_in_order before insert on audit
  when new.sequence <> (select coalesce(max(sequence), 0) + 1 from audit)
  begin select raise(abort, 'the audit log is append-only'); end;

create table seal_check (
  id integer primary key check (id = 1),
  value blob not null
) strict;

create table tokens (
  id text primary key,
  name text not null unique,
  role text not null check (role in ('administrator', 'operator', 'auditor')),
  secret_hash blob not null unique check (length(secret_hash) = 32),
  created_at integer not null,
  last_used_at integer
) strict;

create table settings (
  scope text not null check (scope in ('global', 'cluster', 'host')),
  target text not null,
  name text not null,
  value text not null,
  primary key (scope, target, name)
) strict, without rowid;

create table events (
  sequence integer primary key autoincrement,
  at integer not null,
  kind text not null,
  subject text not null,
  message text not null
) strict;

create table jobs (
  sequence integer primary key autoincrement,
  id text not null unique,
  kind text not null,
  subject text not null,
  locks text not null,
  payload text not null,
  actor text not null,
  state text not null check (state in ('queued', 'running', 'done', 'failed', 'cancelled')),
  cancel_requested integer not null default 0,
  steps text not null,
  progress text,
  migration text,
  result text,
  error text,
  revision integer not null,
  created_at integer not null,
  finished_at integer,
  idempotency_owner text,
  idempotency_key text,
  idempotency_digest text,
  unique (idempotency_owner, idempotency_key)
) strict;
create index jobs_by_state on jobs (state, sequence);

create table job_memories (
  job text not null references jobs (id) on delete cascade,
  key text not null,
  value text not null,
  primary key (job, key)
) strict, without rowid;
`,
};
