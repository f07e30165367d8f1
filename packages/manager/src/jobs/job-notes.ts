import { describeError, isTrustError } from '@virt-trust/base/error.ts';
import type { Job, JobState } from '@virt-trust/contract/model/job.ts';
import { textOf } from '@virt-trust/contract/text.ts';
import type { EventDraft } from '../events/event-log.ts';
import type { JobNotes } from './job-store.ts';

/** What the audit log and the events say of a job's change of state. */
export function notesOf(
  job: Job,
  actor: string,
  outcome: 'intent' | 'done' | 'failed',
  detail: string,
): JobNotes {
  return {
    audit: [
      { actor, action: job.kind, subject: job.subject, outcome, detail: `job ${job.id} ${detail}`.trimEnd() },
    ],
    events: [eventOf(job, job.state, detail)],
  };
}

/** The event of a job's change of state. */
export function eventOf(job: Job, state: JobState, detail: string): EventDraft {
  const message = detail === '' ? `${job.kind} ${state}` : `${job.kind} ${state}: ${detail}`;
  return { kind: `job.${state}`, subject: job.subject, message: `${message} (job ${job.id})` };
}

/** What a job keeps of what it failed with. */
export function errorOf(error: unknown): NonNullable<Job['error']> {
  const trust = isTrustError(error) ? error : undefined;
  return {
    code: trust?.code ?? 'internal.unexpected',
    category: trust?.category ?? 'internal',
    message: textOf(describeError(error)),
    hint: trust?.hint === undefined ? null : textOf(trust.hint),
  };
}
