import type { Clock } from '@virt-trust/base/clock.ts';
import { parseDuration } from '@virt-trust/base/duration.ts';
import { type Instant, instant, MINUTE, NEVER } from '@virt-trust/base/instant.ts';
import { parseTimeWindows } from '@virt-trust/base/time-window.ts';
import type { RenewalPlan } from '@virt-trust/contract/model/certificate.ts';
import { PURPOSE_OF_SERVICE, type Service } from '@virt-trust/contract/model/service.ts';
import { lineOf } from '@virt-trust/contract/text.ts';
import { isSerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { Authorities } from '../authorities/authorities.ts';
import { declaredHostOf } from '../hosts/declared-host.ts';
import type { Host, HostRepository } from '../hosts/host.ts';
import type { CertificateRecord, CertificateRepository } from '../issuance/certificate-record.ts';
import { PROFILE_OF_SERVICE } from '../issuance/issuance.ts';
import { lifetimeOf } from '../issuance/lifetime.ts';
import { presentTemplate } from '../issuance/present-template.ts';
import type { Settings } from '../settings/settings.ts';
import { differencesOf } from './difference.ts';
import { planRenewal } from './plan.ts';
import type { RenewalRow, RenewalStore } from './renewal-store.ts';

export interface RenewalPlannerParts {
  readonly hosts: Pick<HostRepository, 'find' | 'list'>;
  readonly certificates: Pick<CertificateRepository, 'find'>;
  readonly authorities: Authorities;
  readonly settings: Settings;
  readonly store: RenewalStore;
  readonly clock: Clock;
}

/** What a service of a host serves, with the plan for it. */
export interface ServedPlan {
  readonly service: Service;
  readonly serialNumber: string;
  readonly notAfter: Instant;
  readonly at: Instant;
  readonly explanation: readonly string[];
  readonly differences: readonly string[];
  /** Revoked: nothing renews it but somebody who asks for it by name. */
  readonly revoked: boolean;
}

interface Served {
  readonly service: Service;
  readonly serialNumber: string;
  readonly notAfter: Instant;
}

/** What a host serves of ours that renewals take care of: nothing where it is only observed, or on its way out. */
export function servedBy(host: Host): Served[] {
  if (host.observeOnly || host.state === 'removing') return [];
  return (host.observed?.credentials ?? []).flatMap(({ service, identity, serialNumber, notAfter }) =>
    identity !== 'ours' || serialNumber === null || notAfter === null
      ? []
      : [{ service, serialNumber, notAfter: instant(notAfter) }],
  );
}

/** Computes when the certificates of hosts are renewed, and keeps it for the scheduler. */
export class RenewalPlanner {
  readonly #parts: RenewalPlannerParts;

  constructor(parts: RenewalPlannerParts) {
    this.#parts = parts;
  }

  /** Plans all that a host serves anew, and keeps it; forgets the host where it serves nothing. */
  async refresh(hostName: string): Promise<readonly ServedPlan[]> {
    const { hosts, store } = this.#parts;
    const host = await hosts.find(hostName);
    if (host === null) return [];
    const known = await store.of(hostName);
    const plans = await Promise.all(
      servedBy(host).map((served) => this.#plan(host, served, rowFor(known, served))),
    );
    const same = plans.length === known.length && plans.every((plan) => isKept(plan, known));
    if (!same) {
      const rows = plans.map(({ service, serialNumber, notAfter, at }) => ({
        service,
        serialNumber,
        notAfter,
        dueAt: at,
      }));
      await store.plan(hostName, rows);
    }
    return plans;
  }

  /** The plan of a certificate; null where it is served nowhere. */
  async planOf(serialNumber: string): Promise<RenewalPlan | null> {
    const row = await this.#parts.store.bySerial(serialNumber);
    const plan = row === null ? null : await this.planOfRow(row);
    if (plan === null) return null;
    const { revoked: _, ...shown } = plan;
    return shown;
  }

  /** The plan as it stands now; null where the host serves another certificate by now. */
  async planOfRow(row: RenewalRow): Promise<(RenewalPlan & { readonly revoked: boolean }) | null> {
    const host = await this.#parts.hosts.find(row.host);
    const served = host === null ? [] : servedBy(host);
    const current = served.find((one) => one.serialNumber === row.serialNumber);
    if (host === null || current === undefined) return null;
    const { at, explanation, revoked } = await this.#plan(host, current, row);
    const { failures, lastFailure } = row;
    return { at, explanation: explanation.map((line) => lineOf(line)), failures, lastFailure, revoked };
  }

  async #plan(host: Host, served: Served, row: RenewalRow | undefined): Promise<ServedPlan> {
    const { certificates, settings, clock } = this.#parts;
    const { service, serialNumber, notAfter } = served;
    const now = clock.now();
    const subject = { host: host.name, cluster: host.cluster };
    const record = isSerialNumber(serialNumber) ? await certificates.find(serialNumber) : null;
    const lifetime = await lifetimeOf(settings, service, subject);
    const all = record === null ? [] : await this.#differences(host, service, record, lifetime);
    // Renewed for that a moment ago, and still so: renewing once more would go on for ever.
    const differences = all.join('; ') === row?.futile ? [] : all;
    const windowsText = await settings.value('renewal.window', subject);
    const milliseconds = async (name: 'renewal.backoff_min' | 'renewal.backoff_max') =>
      parseDuration(await settings.value(name, subject)) ?? MINUTE;
    const { at, explanation } = planRenewal({
      serialNumber,
      issuedAt: record?.issuedAt ?? instant(Math.max(0, notAfter - lifetime)),
      notAfter,
      jitterPercent: await settings.value('renewal.jitter_percent', subject),
      windows: parseTimeWindows(windowsText) ?? 'always',
      windowsText,
      backoffMin: await milliseconds('renewal.backoff_min'),
      backoffMax: await milliseconds('renewal.backoff_max'),
      failures: row?.failures ?? 0,
      lastFailedAt: row?.lastFailedAt ?? null,
      differences,
      noticedAt: row !== undefined && row.dueAt < now ? row.dueAt : now,
      now,
    });
    const revoked = record !== null && record.revocation !== null;
    const notes = [
      ...(record === null
        ? ['not among the certificates recorded here: when it was issued is taken from the setting']
        : []),
      ...(all.length > differences.length ? [`renewed for this, and still so: ${all.join('; ')}`] : []),
      ...(revoked ? [`revoked: renewed by nothing but: virt-trust host provision ${host.name} --renew`] : []),
    ];
    return {
      service,
      serialNumber,
      notAfter,
      at,
      explanation: [...explanation, ...notes],
      differences: all,
      revoked,
    };
  }

  async #differences(
    host: Host,
    service: Service,
    record: CertificateRecord,
    lifetime: number,
  ): Promise<string[]> {
    const { authorities, settings } = this.#parts;
    const declared = declaredHostOf(host)?.services[service];
    if (declared === undefined) return [];
    const authority = authorities.byPurpose(PURPOSE_OF_SERVICE[service]);
    return differencesOf(record, {
      template: await presentTemplate(settings, authority, PROFILE_OF_SERVICE[service]),
      authority: { name: authority.name, notAfter: authority.issuing.notAfter },
      declared,
      keyAlgorithm: await settings.value('key.algorithm', { host: host.name, cluster: host.cluster }),
      lifetime,
    });
  }
}

function rowFor(rows: readonly RenewalRow[], { service, serialNumber }: Served): RenewalRow | undefined {
  const row = rows.find((one) => one.service === service);
  // Of another certificate only that is of use for which it was renewed.
  return row === undefined || row.serialNumber === serialNumber
    ? row
    : { ...row, dueAt: NEVER, failures: 0, lastFailedAt: null, lastFailure: null };
}

function isKept({ service, serialNumber, at }: ServedPlan, rows: readonly RenewalRow[]): boolean {
  return rows.some((row) => row.service === service && row.serialNumber === serialNumber && row.dueAt === at);
}
