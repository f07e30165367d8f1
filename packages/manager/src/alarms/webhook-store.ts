import type { Webhook } from '@virt-trust/contract/model/alarm.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';

/** Something that the webhook is to be told. */
export interface Delivery {
  readonly sequence: number;
  /** The same each time it is sent, so that a receiver knows what it has. */
  readonly id: string;
  readonly event: string;
  /** The very bytes that are signed and sent. */
  readonly body: string;
}

/** Where the webhook and what waits for it are kept. Each method is one durable unit of work. */
export interface WebhookStore {
  /** As it is shown, without its secret. */
  get(): Promise<Webhook | null>;
  target(): Promise<{ readonly url: string; readonly secret: string } | null>;
  /** Sets it in place of the one before; what waits goes to the new one. */
  put(url: string, secret: string, audit: AuditDraft): Promise<void>;
  /** Takes it away with all that waits. */
  delete(audit: AuditDraft): Promise<void>;
  /** What has waited longest. */
  first(): Promise<Delivery | null>;
  delivered(delivery: Delivery): Promise<void>;
  failed(words: string): Promise<void>;
}
