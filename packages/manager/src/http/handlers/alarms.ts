import { TrustError } from '@virt-trust/base/error.ts';
import type { Randomness } from '@virt-trust/base/randomness.ts';
import type { AlarmStore } from '../../alarms/alarm-store.ts';
import type { Alarms } from '../../alarms/alarms.ts';
import { parseReceiver } from '../../alarms/webhook-address.ts';
import type { WebhookSender } from '../../alarms/webhook-sender.ts';
import type { WebhookStore } from '../../alarms/webhook-store.ts';
import type { AuditLog } from '../../audit/audit-log.ts';
import { pageOf, sequenceOf } from '../cursor.ts';
import type { Handlers } from '../handlers.ts';

type AlarmOperations =
  | 'listAlarms'
  | 'getAlarm'
  | 'acknowledgeAlarm'
  | 'getWebhook'
  | 'putWebhook'
  | 'deleteWebhook'
  | 'testWebhook';

const SECRET_BYTES = 32;

/** The handlers for alarms, and for the webhook that they are sent to. */
export function alarmHandlers(parts: {
  readonly alarms: Alarms;
  readonly store: AlarmStore;
  readonly webhook: WebhookStore;
  readonly sender: WebhookSender;
  readonly randomness: Randomness;
  readonly audit: AuditLog;
}): Pick<Handlers, AlarmOperations> {
  const { alarms, store, webhook, sender } = parts;
  return {
    listAlarms: ({ query }) =>
      pageOf(
        query,
        (before, limit) =>
          store.list({
            before: sequenceOf(before) ?? null,
            host: query?.host ?? null,
            cleared: query?.cleared === true,
            limit,
          }),
        ({ sequence }) => String(sequence),
        ({ alarm }) => alarm,
      ),
    getAlarm: ({ params }) => alarms.find(params.id),
    acknowledgeAlarm: ({ params, actor }) => alarms.acknowledge(params.id, actor.auditName),
    getWebhook: async () => ({ webhook: await webhook.get() }),
    async putWebhook({ body, actor }) {
      // As URL writes it: what is checked, shown and asked is one text.
      const url = parseReceiver(body.url).href;
      const made = Buffer.from(parts.randomness.bytes(SECRET_BYTES)).toString('base64url');
      await webhook.put(url, body.secret ?? made, {
        actor: actor.auditName,
        action: 'webhook.put',
        subject: url,
        outcome: 'done',
        detail: body.secret === undefined ? 'with a secret that was made' : 'with a secret that was given',
      });
      sender.reset();
      const set = await webhook.get();
      if (set === null) throw notSet();
      return { webhook: set, secret: body.secret === undefined ? made : null };
    },
    async deleteWebhook({ actor }) {
      const known = await webhook.get();
      if (known === null) throw notSet();
      await webhook.delete({
        actor: actor.auditName,
        action: 'webhook.delete',
        subject: known.url,
        outcome: 'done',
        detail: `${known.waiting} deliveries that waited went with it`,
      });
      sender.reset();
      return undefined;
    },
    async testWebhook({ actor }) {
      const known = await webhook.get();
      const answer = known === null ? null : await sender.test();
      if (known === null || answer === null) throw notSet();
      await parts.audit.append([
        {
          actor: actor.auditName,
          action: 'webhook.test',
          subject: known.url,
          outcome: answer.taken ? 'done' : 'failed',
          detail: answer.words,
        },
      ]);
      return { delivered: answer.taken, answer: answer.words.slice(0, 4000) };
    },
  };
}

function notSet(): TrustError {
  return new TrustError('webhook.unknown', 'not-found', 'cannot find a webhook: alarms are sent nowhere', {
    hint: 'set one with: virt-trust webhook set URL',
  });
}
