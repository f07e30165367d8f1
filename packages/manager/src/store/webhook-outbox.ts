import { randomUUID } from 'node:crypto';
import type { Instant } from '@virt-trust/base/instant.ts';
import type { Alarm } from '@virt-trust/contract/model/alarm.ts';
import type { Database } from './database.ts';

/** How many deliveries wait at most; the oldest go first, and are counted. */
export const MOST_WAITING = 10_000;

/** Puts what happened to an alarm into the outbox, inside the caller's transaction; nothing where there is no webhook. */
export function enqueueDelivery(
  database: Database,
  event: 'alarm.raised' | 'alarm.acknowledged' | 'alarm.cleared',
  alarm: Alarm,
  at: Instant,
): void {
  if (database.get('select id from webhook where id = 1') === undefined) return;
  const id = randomUUID();
  database.run(
    'insert into webhook_deliveries (id, event, body) values (?, ?, ?)',
    id,
    event,
    JSON.stringify({ id, event, at, alarm }),
  );
  const dropped = database.run(
    'delete from webhook_deliveries where sequence <= (select max(sequence) from webhook_deliveries) - ?',
    MOST_WAITING,
  );
  if (dropped > 0) database.run('update webhook set dropped = dropped + ? where id = 1', dropped);
}
