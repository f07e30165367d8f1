import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { AgentEvent } from '@virt-trust/contract/model/agent-event.ts';
import { SqliteAuditLog } from '../store/audit-log.ts';
import { settableClock, temporaryStore } from '../store/fixtures.ts';
import { SqliteHostRepository } from '../store/host-repository.ts';
import { SqliteWatchStore } from '../store/watch-store.ts';
import { testHost } from './fixtures.ts';

const event = (sequence: number, kind: string): AgentEvent => ({
  sequence,
  at: 0,
  kind,
  subject: 'guest',
  message: `what happened, ${sequence}`,
});

async function watched(t: Parameters<typeof temporaryStore>[0]) {
  const clock = settableClock();
  const { database } = temporaryStore(t, clock);
  const host = testHost('kvm1');
  await new SqliteHostRepository(database, clock).save(host);
  const store = new SqliteWatchStore(database, clock, () => {});
  const audit = new SqliteAuditLog(database, clock);
  const audited = async () =>
    (await audit.list(0, 1000)).map(({ actor, action, outcome, detail }) => ({
      actor,
      action,
      outcome,
      detail,
    }));
  const say = (...events: AgentEvent[]) =>
    store.advance(host.id, host.name, events.at(-1)?.sequence ?? 0, events);
  return { say, audited };
}

test('SECURITY: a source that was cut off, and what went in the clear, is audited once, other events are not', async (t) => {
  const { say, audited } = await watched(t);
  await say(event(1, 'migration.cut_off'), event(2, 'network.changed'), event(3, 'migration.plain'));
  await say(event(1, 'migration.cut_off'), event(3, 'migration.plain'));
  assert.deepEqual(await audited(), [
    {
      actor: 'host:kvm1',
      action: 'migration.cut_off',
      outcome: 'refused',
      detail: 'guest: what happened, 1',
    },
    { actor: 'host:kvm1', action: 'migration.plain', outcome: 'done', detail: 'guest: what happened, 3' },
  ]);
});

test('SECURITY: a host that says it all the time does not fill the audit log', async (t) => {
  const { say, audited } = await watched(t);
  await say(...Array.from({ length: 100 }, (_, index) => event(index + 1, 'migration.cut_off')));
  const entries = await audited();
  assert.equal(entries.length, 11);
  assert.match(entries.at(-1)?.detail ?? '', /^and 90 more/);
});
