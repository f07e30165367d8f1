import type { RevocationReason } from '@virt-trust/contract/model/certificate.ts';
import { parseSerialNumber } from '@virt-trust/pki/serial-number.ts';
import type { Host } from '../hosts/host.ts';
import type { JobContext, JobDefinition } from '../jobs/job.ts';
import type { Enforcement } from './enforcement.ts';
import type { RevocationRepository } from './revocation.ts';
import type { Revoking } from './revoking.ts';

/** What a job of revocation is about. */
export type RevocationWork =
  | {
      readonly kind: 'certificate';
      readonly serial: string;
      readonly reason: RevocationReason;
      readonly comment: string;
    }
  | {
      readonly kind: 'host';
      readonly host: string;
      readonly reason: RevocationReason;
      readonly comment: string;
    }
  | { readonly kind: 'release'; readonly serial: string }
  | { readonly kind: 'refresh' };

export interface RevocationJobParts {
  readonly revoking: Revoking;
  readonly repository: RevocationRepository;
  readonly enforcement: Enforcement;
  /** Throws `host.unknown`. */
  readonly requireHost: (name: string) => Promise<Host>;
  /** Whether CRLs are held back after a restore. */
  readonly isHeld: () => boolean;
  /** Asks the hosts what they hold; with `endedBy` CRLs are held back no longer, whoever is away. */
  readonly recover: (endedBy: string | null, signal: AbortSignal) => Promise<void>;
  /** Cancels migrations from and to a host; answers how many. */
  readonly cancelMigrations: (host: string, actor: string) => Promise<number>;
}

/** Records, signs, brings to the hosts, proves. Each step finds what an earlier run has done. */
export function revocationJob(parts: RevocationJobParts): JobDefinition<RevocationWork> {
  return {
    kind: 'revocation',
    // Half a revocation would be none, and nobody would know.
    cancellable: false,
    urgent: true,
    async run(work, job) {
      const done = await record(work, parts, job);
      if (parts.isHeld())
        await job.step('Ask the hosts what was revoked since the backup', () =>
          parts.recover(work.kind === 'refresh' ? job.actor : null, job.signal),
        );
      const parties = await parts.repository.partyOf(job.id);
      const how =
        work.kind === 'refresh' && (await job.recall('signed')) === undefined ? 'anew' : 'if-needed';
      const enforced = await parts.enforcement.run(how, parties, job);
      return done === '' ? enforced : `${done}; ${enforced}`;
    },
  };
}

async function record(work: RevocationWork, parts: RevocationJobParts, job: JobContext): Promise<string> {
  const { revoking } = parts;
  switch (work.kind) {
    case 'certificate':
      return job.step('Record the revocation', async (report) => {
        await revoking.revoke(parseSerialNumber(work.serial), asked(work, job));
        report(work.reason);
        return `certificate ${work.serial} is revoked`;
      });
    case 'host':
      return job.step('Record the revocation', async (report) => {
        const host = await parts.requireHost(work.host);
        const serials = await revoking.revokeHost(host, asked(work, job));
        const cancelled = await parts.cancelMigrations(work.host, job.actor);
        report(`${work.reason}: ${serials.join(', ')}; ${cancelled} migrations cancelled`);
        return `host ${work.host} is revoked with ${serials.length} certificates, and gets none until: virt-trust host provision ${work.host}`;
      });
    case 'release':
      return job.step('Record the release', async () => {
        const serial = parseSerialNumber(work.serial);
        if ((await job.recall('begun')) === undefined) revoking.checkRelease(serial);
        await job.remember('begun', true);
        await revoking.release(serial, job.actor);
        return `certificate ${work.serial} is off hold`;
      });
    case 'refresh':
      return '';
  }
}

function asked(work: { reason: RevocationReason; comment: string }, job: JobContext) {
  return { reason: work.reason, comment: work.comment, actor: job.actor, origin: job.id };
}
