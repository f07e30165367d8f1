import { TrustError } from '@virt-trust/base/error.ts';
import type { Database } from './database.ts';
import { json, text } from './row.ts';

/** A lock of jobs that work on every host. */
const EVERY_HOST = 'hosts:all';

/**
 * Within the transaction that renames a host, before its own row is written: carries along what other tables hold under
 * its name. Jobs, events and the audit log keep the name that it had then. Throws `host.busy` where a job names it.
 */
export function carryHostName(database: Database, from: string, to: string): void {
  refuseWhileBusy(database, from);
  // Of a host of that name that was removed: they were never this one's.
  database.run("delete from settings where scope = 'host' and target = ?", to);
  database.run("update settings set target = ? where scope = 'host' and target = ?", to, from);
  database.run('update certificates set host = ? where host = ?', to, from);
  database.run('update certificates set held_by = ? where held_by = ?', to, from);
  database.run('update certified_keys set host = ? where host = ?', to, from);
  database.run('update revoked_parties set host = ? where host = ?', to, from);
  for (const row of database.all('select id, subject from alarms where host = ?', from)) {
    database.run(
      'update or ignore alarms set host = ?, subject = ? where id = ?',
      to,
      subjectUnder(text(row, 'subject'), from, to),
      text(row, 'id'),
    );
  }
}

/** Alarms name what they are about in words: `libvirt of host kvm1`. */
function subjectUnder(subject: string, from: string, to: string): string {
  return subject
    .split(' ')
    .map((word, index, words) => (word === from && words[index - 1] === 'host' ? to : word))
    .join(' ');
}

/** A job goes by the name of its host until its end. */
function refuseWhileBusy(database: Database, name: string): void {
  const rows = database.all(
    "select id, kind, locks, payload from jobs where state in ('queued', 'running') order by sequence",
  );
  for (const row of rows) {
    const locks = json<string[]>(row, 'locks');
    const named = locks.includes(`host:${name}`) || locks.includes(EVERY_HOST);
    if (!named && !mentions(json<unknown>(row, 'payload'), name)) continue;
    throw new TrustError(
      'host.busy',
      'conflict',
      `cannot rename host ${name}: a job works on it (${text(row, 'kind')} ${text(row, 'id')})`,
      { hint: `wait until it is over: virt-trust job watch ${text(row, 'id')}` },
    );
  }
}

function mentions(value: unknown, name: string): boolean {
  if (typeof value === 'string') return value === name;
  return (
    typeof value === 'object' && value !== null && Object.values(value).some((one) => mentions(one, name))
  );
}
