import { TrustError } from '@virt-trust/base/error.ts';
import { encodePem } from '@virt-trust/pki/pem.ts';
import { parseSerialNumber } from '@virt-trust/pki/serial-number.ts';
import { roleSuffices } from '../../access/token.ts';
import type { Authorities } from '../../authorities/authorities.ts';
import type { Host, HostRepository } from '../../hosts/host.ts';
import type { JobDefinition } from '../../jobs/job.ts';
import type { JobRunner } from '../../jobs/job-runner.ts';
import type { CrlRepository } from '../../revocation/crl.ts';
import type { CrlIssuer } from '../../revocation/crl-issuer.ts';
import type { CrlRecovery } from '../../revocation/crl-recovery.ts';
import { purposesOf, takesCrls } from '../../revocation/delivery.ts';
import { HOST_ENTRIES } from '../../revocation/host-form.ts';
import type { RevocationWork } from '../../revocation/revocation-job.ts';
import type { Revoking } from '../../revocation/revoking.ts';
import type { HandlerInput, Handlers } from '../handlers.ts';

export interface RevocationHandlersParts {
  readonly jobs: JobRunner;
  readonly job: JobDefinition<RevocationWork>;
  readonly revoking: Revoking;
  readonly authorities: Authorities;
  readonly issuer: CrlIssuer;
  readonly recovery: Pick<CrlRecovery, 'held' | 'progress'>;
  readonly crls: CrlRepository;
  readonly hosts: HostRepository;
  readonly requireHost: (name: string) => Promise<Host>;
}

type Operations = 'revokeCertificate' | 'releaseCertificate' | 'revokeHost' | 'listCrls' | 'refreshCrls';

/** Revocation: what can be said at once is refused at once, the rest is a job. */
export function revocationHandlers(parts: RevocationHandlersParts): Pick<Handlers, Operations> {
  const { jobs, job, revoking } = parts;
  const enqueue = (
    subject: string,
    payload: RevocationWork,
    { actor, idempotencyKey }: Pick<HandlerInput<never>, 'idempotencyKey'> & { actor: { auditName: string } },
  ) =>
    // No lock: a revocation waits for nobody.
    jobs.enqueue(job, { subject, payload, actor: actor.auditName, locks: [], idempotencyKey });
  return {
    async revokeCertificate({ params, body, ...asker }) {
      const { reason, comment = '' } = body;
      revoking.check(parseSerialNumber(params.serial), reason);
      return enqueue(params.serial, { kind: 'certificate', serial: params.serial, reason, comment }, asker);
    },
    async releaseCertificate({ params, ...asker }) {
      revoking.checkRelease(parseSerialNumber(params.serial));
      return enqueue(params.serial, { kind: 'release', serial: params.serial }, asker);
    },
    async revokeHost({ params, body, ...asker }) {
      await parts.requireHost(params.name);
      const { reason, comment = '' } = body;
      return enqueue(params.name, { kind: 'host', host: params.name, reason, comment }, asker);
    },
    async refreshCrls(asker) {
      // SECURITY: it goes on without hosts that may know of more revocations.
      if (parts.recovery.held && !roleSuffices(asker.actor.role, 'administrator')) throw needsAdministrator();
      return enqueue('CRLs', { kind: 'refresh' }, asker);
    },
    listCrls: () => listCrls(parts),
  };
}

function needsAdministrator(): TrustError {
  return new TrustError(
    'crl.held',
    'denied',
    'cannot sign CRLs: this manager was restored from a backup and has not asked enough of its hosts what was revoked since; going on without them takes an administrator',
    { hint: 'bring the hosts up (virt-trust host list)' },
  );
}

async function listCrls({ authorities, issuer, crls, hosts, recovery }: RevocationHandlersParts) {
  const progress = recovery.held ? await recovery.progress() : null;
  const fleet = (await hosts.list()).filter(takesCrls);
  const held = await crls.deliveries();
  const items = await Promise.all(
    authorities.list().map(async ({ name, purpose }) => {
      const crl = issuer.current(name) ?? (await issuer.ensure(name));
      const concerned = fleet.filter((host) => purposesOf(host).includes(purpose));
      const behind = concerned.filter(
        (host) =>
          !held.some(
            (one) =>
              one.host === host.id &&
              one.authority === name &&
              one.number >= crl.number &&
              one.failure === null,
          ),
      );
      return {
        authority: name,
        purpose,
        number: crl.number.toString(16),
        thisUpdate: crl.thisUpdate,
        nextUpdate: crl.nextUpdate,
        refreshAt: await issuer.refreshAt(crl),
        entries: crl.entries,
        hostEntries: crl.hostEntries,
        hosts: {
          current: concerned.length - behind.length,
          behind: behind.slice(0, 10_000).map((host) => host.name),
        },
        // A long one is for download: it is published.
        pem: progress !== null || crl.entries > HOST_ENTRIES ? null : encodePem('X509 CRL', crl.whole),
      };
    }),
  );
  return { items, held: progress === null ? null : { heard: progress.heard, hosts: progress.hosts } };
}
