import type { Instant } from '@virt-trust/base/instant.ts';
import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import type { RevokedParty } from '@virt-trust/contract/model/crl.ts';
import type { SerialNumber } from '@virt-trust/pki/serial-number.ts';

/** The origin of certificates of the manager's own that exist to be refused. */
export const CANARY = 'canary';

/** What is to be revoked, by whom and why. */
export interface RevocationOrder {
  readonly serials: readonly SerialNumber[];
  readonly reason: RevocationReason;
  readonly comment: string;
  readonly actor: string;
  /** What asked for it, the same each time that it is tried again: the id of a job. */
  readonly origin: string;
  /** The host all of whose certificates these are: it gets no other until it is provisioned by name. */
  readonly host?: { readonly name: string; readonly addresses: readonly string[] };
}

/** What became of one serial number. */
export type RevocationOutcome =
  | { readonly kind: 'revoked' }
  /** By the same order, before a crash. */
  | { readonly kind: 'done-before' }
  | { readonly kind: 'already'; readonly at: Instant; readonly reason: RevocationReason }
  | { readonly kind: 'unknown' };

/** What is known of a serial number of an authority; `recorded` certificates count as issued. */
export type CertificateStatus =
  | { readonly kind: 'good' }
  | { readonly kind: 'revoked'; readonly at: Instant; readonly reason: RevocationReason }
  | { readonly kind: 'unknown' };

/** A certificate that is on its authority's CRL. */
export interface ListedRevocation {
  readonly sequence: number;
  readonly serialNumber: SerialNumber;
  readonly at: Instant;
  readonly reason: RevocationReason;
  /** A certificate of the manager's own that exists to be refused. */
  readonly canary: boolean;
}

/** What an authority's CRL has to say now. */
export interface CrlContent {
  /** Grows with each change. */
  readonly changes: number;
  /** Grows with each change that is more than entries at the end. */
  readonly rewrites: number;
  /** In the order of revocation: all, or what came after `from` where nothing else has changed since. */
  readonly listed: readonly ListedRevocation[];
  readonly from: number;
}

/** A certificate that its host could still use. */
export interface LiveCertificate {
  readonly serialNumber: SerialNumber;
  readonly authority: string;
  readonly service: string | null;
  readonly tbs: Uint8Array;
}

/** Where revocations are kept. Each method is one durable unit of work. */
export interface RevocationRepository {
  /** Revokes all that can be, with audit entries, and notes whose sessions are to be cut; an outcome for each serial number. */
  revoke(order: RevocationOrder): Promise<readonly RevocationOutcome[]>;
  /** Revokes every live certificate of a host, those of its migrations too, and keeps new ones from it; answers what it revoked. */
  revokeHost(
    order: Omit<RevocationOrder, 'serials' | 'host'> & {
      readonly host: { readonly name: string; readonly addresses: readonly string[] };
      /** False where the host is being removed or stays in use otherwise: then nothing is noted on it. */
      readonly bar: boolean;
    },
  ): Promise<readonly SerialNumber[]>;
  /** Takes a certificate off hold; what it was revoked for, null where it was not. Only a hold is released. */
  release(
    serialNumber: SerialNumber,
    actor: string,
  ): Promise<{ readonly authority: string; readonly reason: RevocationReason } | null>;
  /** Lets a host have certificates again. */
  lift(host: string): Promise<void>;
  status(authority: string, serialNumber: SerialNumber): CertificateStatus;
  /** The state of a certificate of whichever authority. */
  statusOf(serialNumber: SerialNumber): CertificateStatus & { readonly authority?: string };
  changes(authority: string): number;
  /** With what was read before, only what came since, if it can be told apart. */
  content(authority: string, read: { readonly rewrites: number; readonly through: number }): CrlContent;
  /** What was not revoked and is valid past `now`, of a host; `host` where the services' certificates alone are meant. */
  live(host: string, now: Instant, which: 'all' | 'services'): Promise<readonly LiveCertificate[]>;
  /** Whose certificates were revoked after `since`, newest last. */
  parties(since: Instant): Promise<readonly RevokedParty[]>;
  /** Of one order. */
  partyOf(origin: string): Promise<readonly RevokedParty[]>;
}
