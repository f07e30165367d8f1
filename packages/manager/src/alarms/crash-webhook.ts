import { systemClock } from '@virt-trust/base/clock.ts';
import { silentLog } from '@virt-trust/base/log.ts';
import { systemRandomness } from '@virt-trust/base/randomness.ts';
import { openStore } from '../store/open-store.ts';
import { enqueueDelivery } from '../store/webhook-outbox.ts';
import { SqliteWebhookStore } from '../store/webhook-store.ts';
import { testAlarm, testSeal } from './fixtures.ts';
import { WebhookSender } from './webhook-sender.ts';

// A process for webhook.test.ts to kill: it sends to a receiver that takes the request and does not answer.
const [directory = '', url = ''] = process.argv.slice(2);
const { database } = openStore(directory, systemClock);
const store = new SqliteWebhookStore(database, systemClock, testSeal());
const audit = { actor: 'a', action: 'webhook.put', subject: url, outcome: 'done', detail: '' } as const;
await store.put(url, 'a secret of the receiver', audit);
database.transaction(() => {
  for (const n of [1, 2]) enqueueDelivery(database, 'alarm.raised', testAlarm(n), systemClock.now());
});
const sender = new WebhookSender({
  store,
  clock: systemClock,
  randomness: systemRandomness,
  log: silentLog,
  signal: new AbortController().signal,
  timeoutMs: 600_000,
});
sender.start();
await sender.stop();
