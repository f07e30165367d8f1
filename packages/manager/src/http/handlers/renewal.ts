import { TrustError } from '@virt-trust/base/error.ts';
import { parseSerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { CertificateRepository } from '../../issuance/certificate-record.ts';
import type { JobDefinition } from '../../jobs/job.ts';
import type { JobRunner } from '../../jobs/job-runner.ts';
import type { Freeze } from '../../renewal/freeze.ts';
import type { RenewalPlanner } from '../../renewal/planner.ts';
import type { RenewOrder } from '../../renewal/renew-job.ts';
import type { RenewalControl, RenewalRow, RenewalStore } from '../../renewal/renewal-store.ts';
import type { Handlers } from '../handlers.ts';

export interface RenewalHandlersParts {
  readonly store: RenewalStore;
  readonly planner: RenewalPlanner;
  readonly freeze: Freeze;
  readonly certificates: Pick<CertificateRepository, 'find'>;
  readonly jobs: JobRunner;
  readonly job: JobDefinition<RenewOrder>;
  readonly now: () => number;
}

/** Renewals to come, one that is asked for by name, and the freeze. */
export function renewalHandlers(
  parts: RenewalHandlersParts,
): Pick<Handlers, 'listRenewals' | 'renewCertificate' | 'getFreeze' | 'putFreeze'> {
  const { store, freeze, jobs, job } = parts;
  return {
    async listRenewals({ query }) {
      const rows = await store.list({ host: query?.host ?? null, limit: query?.limit ?? 100 });
      const control = await freeze.state();
      const running = new Map(
        jobs
          .unfinished('host-renew')
          .filter((record) => record.job.state === 'running')
          .map((record) => [record.job.subject, (record.payload as RenewOrder).serials]),
      );
      const items = await Promise.all(
        rows.map(async (row) => {
          const plan = await parts.planner.planOfRow(row);
          if (plan === null) return [];
          const held = heldBack(row, control, plan.at <= parts.now());
          const isRunning = running.get(row.host)?.[row.service] === row.serialNumber;
          return [
            {
              host: row.host,
              service: row.service,
              serialNumber: row.serialNumber,
              notAfter: row.notAfter,
              state: isRunning
                ? ('running' as const)
                : held.length > 0 || plan.revoked
                  ? ('held' as const)
                  : plan.at <= parts.now()
                    ? ('due' as const)
                    : ('planned' as const),
              plan: {
                at: plan.at,
                explanation: [...plan.explanation, ...held],
                failures: plan.failures,
                lastFailure: plan.lastFailure,
              },
            },
          ];
        }),
      );
      return { items: items.flat() };
    },
    async renewCertificate({ params, actor, idempotencyKey }) {
      const row = await store.bySerial(params.serial);
      if (row === null) throw await notServed(params.serial, parts);
      return jobs.enqueue(job, {
        subject: row.host,
        payload: { host: row.host, serials: { [row.service]: row.serialNumber }, asked: true },
        actor: actor.auditName,
        locks: [`host:${row.host}`],
        idempotencyKey,
      });
    },
    getFreeze: async () => freezeView(await freeze.state()),
    putFreeze: async ({ body, actor }) =>
      freezeView(await freeze.put(body.frozen, body.reason ?? '', actor.auditName)),
  };
}

/** Why something that is due does not begin. */
function heldBack(row: RenewalRow, control: RenewalControl, isDue: boolean): string[] {
  const lines: string[] = [];
  if (control.frozen && isDue)
    lines.push(`held: frozen by ${control.frozenBy ?? 'somebody'}${control.reason && `: ${control.reason}`}`);
  if (row.away && isDue) lines.push('held: the host is away; it goes first when its channel is up');
  return lines;
}

function freezeView({ frozen, frozenBy, reason, since }: RenewalControl) {
  return { frozen, by: frozenBy, reason, since };
}

async function notServed(serial: string, { certificates }: RenewalHandlersParts): Promise<TrustError> {
  const record = await certificates.find(parseSerialNumber(serial));
  if (record === null) {
    return new TrustError(
      'certificate.unknown',
      'not-found',
      `cannot find a certificate with serial number ${serial}`,
      { hint: 'see them with: virt-trust certificate list' },
    );
  }
  const of = record.holder.kind === 'host' ? `host ${record.holder.host}` : 'a client';
  return new TrustError(
    'certificate.not_served',
    'conflict',
    `cannot renew certificate ${serial}: ${of} serves it nowhere`,
    { hint: 'see what is served with: virt-trust renewal list' },
  );
}
