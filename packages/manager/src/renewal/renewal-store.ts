import type { Instant } from '@virt-trust/base/instant.ts';
import type { Service } from '@virt-trust/contract/model/service.ts';
import type { AuditDraft } from '../audit/audit-entry.ts';
import type { EventDraft } from '../events/event-log.ts';

/** What is kept of the renewal of one service of a host. */
export interface RenewalRow {
  readonly host: string;
  readonly service: Service;
  /** Of the certificate that is served. */
  readonly serialNumber: string;
  readonly notAfter: Instant;
  readonly dueAt: Instant;
  /** Was due while the host was away. */
  readonly away: boolean;
  readonly failures: number;
  readonly lastFailedAt: Instant | null;
  readonly lastFailure: string | null;
  /** What would be different although it was just renewed for that; empty where nothing. */
  readonly futile: string;
}

/** Whether renewals that nobody asked for by name are stopped, and where the wave stands. */
export interface RenewalControl {
  readonly frozen: boolean;
  readonly frozenBy: string | null;
  readonly reason: string;
  readonly since: Instant | null;
  /** Null where no wave is under way. */
  readonly waveBeganAt: Instant | null;
  readonly waveSuccesses: number;
}

/** The freeze as it shall be, with what is said about it. */
export interface FreezeChange {
  readonly frozen: boolean;
  readonly by: string | null;
  readonly reason: string;
  readonly audit: AuditDraft;
  readonly event: EventDraft;
}

export interface FailedRenewal {
  readonly host: string;
  readonly services: readonly Service[];
  readonly message: string;
  /** Whether it counts towards the end of the wave: it was nobody's order. */
  readonly counts: boolean;
}

/** Where renewals are kept. Each method is one durable unit of work. */
export interface RenewalStore {
  of(host: string): Promise<readonly RenewalRow[]>;
  bySerial(serialNumber: string): Promise<RenewalRow | null>;
  /** The soonest first, of one host where one is given. */
  list(filter: { readonly host: string | null; readonly limit: number }): Promise<readonly RenewalRow[]>;
  /**
   * Keeps what a host serves and when that is renewed, and forgets what it serves no longer. A new serial number takes
   * back failures, `away` and `first`.
   */
  plan(
    host: string,
    rows: readonly Pick<RenewalRow, 'service' | 'serialNumber' | 'notAfter' | 'dueAt'>[],
  ): Promise<void>;
  /** Hosts with something due that is not revoked: first those that were away, then those whose certificates end first. */
  dueHosts(now: Instant, limit: number): Promise<readonly string[]>;
  /** When the next one becomes due; null where there is none. */
  nextDue(after: Instant): Promise<Instant | null>;
  /** What the host has due is passed over until it is back. */
  markAway(host: string): Promise<void>;
  /** True where the host had something due while it was away; that goes first now. */
  markBack(host: string): Promise<boolean>;
  failed(failure: FailedRenewal): Promise<void>;
  /** With `counts`, the wave goes on with one host more. */
  succeeded(host: string, futile: Readonly<Partial<Record<Service, string>>>, counts: boolean): Promise<void>;
  /** Those whose last renewal failed. */
  failures(limit: number): Promise<readonly RenewalRow[]>;
  control(): Promise<RenewalControl>;
  setFreeze(change: FreezeChange): Promise<RenewalControl>;
  beginWave(): Promise<void>;
  endWave(): Promise<void>;
  /** Hosts that failed in this wave, or since the last success, whichever are more. */
  countFailures(): Promise<number>;
}
