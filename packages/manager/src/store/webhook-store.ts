import type { Clock } from '@virt-trust/base/clock.ts';
import type { Webhook } from '@virt-trust/contract/model/alarm.ts';
import { lineOf } from '@virt-trust/contract/text.ts';
import type { Delivery, WebhookStore } from '../alarms/webhook-store.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { Seal } from '../seal/seal.ts';
import { appendAudit } from './audit-log.ts';
import type { Database } from './database.ts';
import { bytes, integer, text, textOrNull, timeOrNull } from './row.ts';

const PLACE = { table: 'webhook', row: '1', column: 'sealed_secret' };

/** The webhook and its outbox in SQLite, the secret sealed. */
export class SqliteWebhookStore implements WebhookStore {
  readonly #database: Database;
  readonly #clock: Clock;
  readonly #seal: Seal;

  constructor(database: Database, clock: Clock, seal: Seal) {
    this.#database = database;
    this.#clock = clock;
    this.#seal = seal;
  }

  async get(): Promise<Webhook | null> {
    const row = this.#database.get('select * from webhook where id = 1');
    if (row === undefined) return null;
    const waiting = this.#database.get('select count(*) as waiting from webhook_deliveries') ?? {};
    return {
      url: text(row, 'url'),
      waiting: integer(waiting, 'waiting'),
      dropped: integer(row, 'dropped'),
      lastDeliveryAt: timeOrNull(row, 'last_delivery_at'),
      lastFailure: textOrNull(row, 'last_failure'),
    };
  }

  async target(): Promise<{ url: string; secret: string } | null> {
    const row = this.#database.get('select url, sealed_secret from webhook where id = 1');
    if (row === undefined) return null;
    const secret = Buffer.from(this.#seal.open(PLACE, bytes(row, 'sealed_secret'))).toString('utf8');
    return { url: text(row, 'url'), secret };
  }

  async put(url: string, secret: string, audit: AuditDraft): Promise<void> {
    const sealed = this.#seal.seal(PLACE, Buffer.from(secret, 'utf8'));
    this.#database.transaction(() => {
      this.#database.run(
        `insert into webhook (id, url, sealed_secret) values (1, ?, ?)
          on conflict do update set url = excluded.url, sealed_secret = excluded.sealed_secret, last_failure = null`,
        url,
        sealed,
      );
      appendAudit(this.#database, this.#clock, [audit]);
    });
  }

  async delete(audit: AuditDraft): Promise<void> {
    this.#database.transaction(() => {
      this.#database.run('delete from webhook_deliveries');
      if (this.#database.run('delete from webhook') > 0) appendAudit(this.#database, this.#clock, [audit]);
    });
  }

  async first(): Promise<Delivery | null> {
    const row = this.#database.get('select * from webhook_deliveries order by sequence limit 1');
    if (row === undefined) return null;
    return {
      sequence: integer(row, 'sequence'),
      id: text(row, 'id'),
      event: text(row, 'event'),
      body: text(row, 'body'),
    };
  }

  async delivered({ sequence }: Delivery): Promise<void> {
    this.#database.transaction(() => {
      this.#database.run('delete from webhook_deliveries where sequence = ?', sequence);
      this.#database.run(
        'update webhook set last_delivery_at = ?, last_failure = null where id = 1',
        this.#clock.now(),
      );
    });
  }

  async failed(words: string): Promise<void> {
    this.#database.run('update webhook set last_failure = ? where id = 1', lineOf(words));
  }
}
